"""Istio's kinds: their schemas, and what the data path makes of them."""
