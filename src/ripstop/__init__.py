"""ripstop: how much of the past a sequence model can carry, and what each byte of that memory buys."""
