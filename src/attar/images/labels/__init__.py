"""Soft labels: stored for many views, or computed by a small labeller that is saved with the images."""
