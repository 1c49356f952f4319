"""Readers of samples with several labels, captions, or novel classes; and how they are split."""
