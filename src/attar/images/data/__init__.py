"""Labelled images: reading them, keeping them in memory or on disk, and transforming them to network input."""
