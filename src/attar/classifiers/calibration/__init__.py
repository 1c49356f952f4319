"""Calibration: making the confidence of a trained classifier match its accuracy."""
