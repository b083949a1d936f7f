"""Training: batches in, rows of metrics and a checkpoint out."""
