"""Several processes train one model: `torchrun --nproc_per_node=4 -m ripstop train ...`."""
