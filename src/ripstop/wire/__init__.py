"""What a document becomes when it is sent: numbers in few bits, counted in bytes, and the file that holds them."""
