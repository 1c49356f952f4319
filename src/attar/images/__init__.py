"""Labelled images: where they come from, what is trained on them, and how few will do."""
