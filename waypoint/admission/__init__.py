"""Admission of requests: the order of policies (`order`), and waiting requests (`held`)."""
