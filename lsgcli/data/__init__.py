"""Data: from recordings and images to batches."""
