"""Adapters to packages with CUDA kernels, a file each. Imported inside the functions of `ripstop.kernels` that run them, and
nowhere else: what no run on a CPU can reach, no such run depends on."""
