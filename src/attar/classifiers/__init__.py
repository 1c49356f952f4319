"""Classifiers into smaller ones: what a student learns from its teacher."""
