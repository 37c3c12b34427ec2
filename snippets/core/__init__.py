"""The concepts in NumPy, forward and backward."""
