"""Views of images: random augmentation of single images, batches or whole epochs."""
