"""The version of attar, as cards and packages name it."""

__version__ = "0.1.0"
