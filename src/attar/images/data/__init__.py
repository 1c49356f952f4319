"""Labelled images: read from wherever they are, kept in memory or on disk, and made network input."""
