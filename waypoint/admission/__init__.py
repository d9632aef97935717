"""How a request is admitted: the order of the policies (`order`), and the room where a request waits (`held`)."""
