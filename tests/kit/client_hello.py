"""The first bytes of a TLS client."""

import ssl
from contextlib import suppress


def client_hello(name: str | None) -> bytes:
    """Return a ClientHello with the SNI `name`."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
