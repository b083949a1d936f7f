"""Results back from the DVC remote on a fresh clone."""
