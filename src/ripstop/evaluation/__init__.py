"""Measures on a trained model, and the controls that every study shares."""
