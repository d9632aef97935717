"""What is recorded of exchanges: metrics, access log, spans, and request heads for replay."""
