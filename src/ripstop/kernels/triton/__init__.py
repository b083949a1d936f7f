"""Natively sparse attention (arXiv 2502.11089) on CUDA, in Triton: attention to blocks, selection of blocks, attention inside them.

Every kernel runs in Triton's interpreter on a CPU as well (TRITON_INTERPRET=1, set before triton is imported), in float32.
"""
