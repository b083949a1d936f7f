"""What was measured on which device, as files beside the code that goes by them."""
