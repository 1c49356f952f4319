"""Losses of labels, as functions, and as modules for any loop."""
