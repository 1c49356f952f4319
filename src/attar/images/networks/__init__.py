"""The field's networks by name, any classifier of `transformers`, and what all of them can be asked."""
