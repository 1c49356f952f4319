"""The field's networks by name, any classifier of `transformers`, and functions for all of them."""
