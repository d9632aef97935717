"""How connections arrive: tunnels, the PROXY protocol, and bytes that are no HTTP."""
