"""Which results are stale, what made them so, and what the workflow would do about it. Needs no torch, and writes nothing."""
