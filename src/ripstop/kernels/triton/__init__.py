"""Natively sparse attention (arXiv 2502.11089) in Triton for CUDA: attention to blocks, selection, attention inside blocks.

Every kernel runs in Triton's interpreter on a CPU as well (TRITON_INTERPRET=1, set before triton is imported), in float32.
"""
