"""Services that take part in a request: authorizers, rate limit services, mirrors."""
