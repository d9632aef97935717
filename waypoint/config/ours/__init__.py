"""The kinds of `pywaypoint.dev`: their schemas, and what the data path makes of them."""
