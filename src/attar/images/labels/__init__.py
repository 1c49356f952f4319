"""Soft labels: stored for many views, or made by a small labeller that travels with the images."""
