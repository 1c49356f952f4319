"""The version of attar, which cards and packages print."""

__version__ = "0.1.0"
"""The version of attar."""
