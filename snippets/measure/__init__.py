"""Measure a PyTorch network: its layers, its costs, what its units see."""
