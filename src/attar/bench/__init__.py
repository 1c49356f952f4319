"""The table runner and the papers' numbers as data."""
