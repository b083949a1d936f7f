"""Adapters to GPU kernels, and the choice of which backend runs."""
