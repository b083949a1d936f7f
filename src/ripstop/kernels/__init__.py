"""Operations as mixers call them, a file each: a slow reference, torch, or a CUDA kernel where one is installed and fits."""
