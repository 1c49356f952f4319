"""Encoders for classes of which only a few samples are known."""
