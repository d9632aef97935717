"""The one door to a Kubernetes API server: credentials, requests, and objects that are followed."""
