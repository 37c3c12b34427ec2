"""Data made from what scikit-learn brings along."""
