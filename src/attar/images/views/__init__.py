"""Views of images: what augmentation draws, alone, for a batch, or for a whole epoch."""
