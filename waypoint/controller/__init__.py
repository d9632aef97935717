"""The mesh's control plane, which signs certificates. The data path never imports it."""
