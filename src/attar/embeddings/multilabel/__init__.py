"""Encoders and classifiers of samples with several labels."""
