"""States kept between tokens in few bits: the number formats, how each tensor of a state is written, and the store."""
