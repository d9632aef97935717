"""aiohttp, without the system's root certificates.

When it is imported, aiohttp reads them for an HTTPS context of its own: 2.6 MiB, and a twentieth of a second of each
start. Nothing uses that context, because clients of HTTPS bring one (`l4.outside_tls`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _no_roots() -> Iterator[None]:
    """OpenSSL reads roots from the file that SSL_CERT_FILE names."""
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


with _no_roots():
    import aiohttp as aiohttp
    from aiohttp import web as web
