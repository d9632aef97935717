"""Who vouches for a request's sender: tokens and the keys that they are checked with."""
