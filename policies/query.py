"""Parse a request's query."""

from functools import lru_cache
from urllib.parse import unquote_to_bytes


# Many matches may look at one request's query in a row; it is parsed once.
@lru_cache(maxsize=1)
def parse_query(query: bytes) -> dict[bytes, bytes]:
    """Return decoded query parameters. Of a repeated one, the first counts, as in Envoy."""
    parameters: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        parameters.setdefault(unquote_to_bytes(name), unquote_to_bytes(value))
    return parameters
