"""The modules in PyTorch: recognition and detection."""
