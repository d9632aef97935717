"""The mesh's control plane: it makes waypoints of Gateways, and signs certificates. The data path never imports it."""
