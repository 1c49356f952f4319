"""Distill classifiers: train a small student with the outputs of a large teacher."""
