"""What the pages draw, in Matplotlib."""
