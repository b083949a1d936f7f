"""Layers around the mixers: embedding, norm, mlp, cross-attention, block."""
