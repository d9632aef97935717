"""Filters: steps that requests and responses pass, and the calls that they make to other services."""
