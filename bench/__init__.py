"""Compares this package with the reference, both as black boxes, on one machine in one run."""
