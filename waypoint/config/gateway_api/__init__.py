"""The kinds of the Gateway API: their schemas, and what the data path makes of them."""
