"""TLS to servers outside the mesh, whose certificates others have issued. The mesh's own is in `l4.identity.tls`."""

import ssl

_CHECKS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
"""The same on every Python version.

From 3.13 on, Python also requires extensions that many private authorities omit (VERIFY_X509_STRICT), among them those
of API servers. Go and Envoy do not require them. Both accept a trusted intermediate authority as the end of the chain.
"""


def client_context(*, file: str | None = None, text: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of a PEM file or text, or the system's roots.

    Reads files, so call it in a thread. Raises OSError, and ssl.SSLError or ValueError for what is no certificate.
    """
    context = ssl.create_default_context(cafile=file, cadata=text)
    context.verify_flags = _CHECKS
    return context
