"""Records about exchanges: metrics, access log, spans, and request heads for replay."""
