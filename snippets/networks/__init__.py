"""The networks in PyTorch, one network a file."""
