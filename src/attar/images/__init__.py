"""Labelled images: reading them, condensing them into a few images per class, and training on them."""
