"""The kinds of `pywaypoint.dev`: schemas and compilation."""
