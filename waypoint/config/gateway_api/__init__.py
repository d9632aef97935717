"""Gateway API kinds: schemas and compilation."""
