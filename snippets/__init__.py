"""Code of the CNN Notes: each file stands alone and can be copied."""
