"""Encoders trained without labels: two views of a sample should agree."""
