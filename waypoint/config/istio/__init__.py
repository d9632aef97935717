"""Istio's kinds: schemas and compilation."""
