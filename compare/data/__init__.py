"""Datasets and batches in NumPy, the same for both frameworks."""
