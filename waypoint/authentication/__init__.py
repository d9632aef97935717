"""Authentication of requests: tokens and their keys."""
