"""Bookinfo: four small programs that make one page together, and know nothing of the network between them."""
