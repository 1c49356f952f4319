"""Reading tables: what was found, its schema, and its values as numbers."""
