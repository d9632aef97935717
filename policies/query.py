"""The parameters of a request's query."""

from functools import lru_cache
from urllib.parse import unquote_to_bytes


# Of one request many matches may ask for the query, one after the other; it is parsed once.
@lru_cache(maxsize=1)
def parse_query(query: bytes) -> dict[bytes, bytes]:
    """Parameters with their escapes decoded; of a repeated one the first, as in Envoy."""
    parameters: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        parameters.setdefault(unquote_to_bytes(name), unquote_to_bytes(value))
    return parameters
