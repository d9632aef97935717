"""A real Kubernetes of two nodes on this machine: `make cluster` brings it up, `make cluster-test` tests against it."""
