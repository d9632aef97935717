"""Incoming connections: tunnels, the PROXY protocol, and non-HTTP bytes."""
