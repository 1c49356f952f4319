"""The tables of `attar bench`, and the published figures as data."""
