"""What a web page in a browser may ask of our HTTP servers: a page that we serve may read, other pages get nothing.

Browsers send requests of any page to any address. Such a request shows in one of three headers: `Origin` names another
page, `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/) says that it is one, or `Host` has a name, which an
attacker's DNS may resolve to us. curl and other tools send neither of the first two, and an address in the third.
"""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from l4.aiohttp import web

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OWN_SITES = frozenset({"same-origin", "none"})
"""`none` is an address that the user typed."""
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve_own_pages_only(app: web.Application) -> None:
    """Refuse what other pages ask of this application, and forbid browsers to use its answers elsewhere."""
    app.middlewares.append(_refuse_other_pages)
    app.on_response_prepare.append(_add_headers)


@web.middleware
async def _refuse_other_pages(request: web.Request, handler: _Handler) -> web.StreamResponse:
    if not _is_welcome(request):
        raise web.HTTPForbidden(
            text="the administration port rejects requests from web pages other than its own; use curl, or open it in "
            "a browser, by its IP address or as localhost\n"
        )
    return await handler(request)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _is_welcome(request: web.Request) -> bool:
    """Our own page only reads, so that a browser never needs to change anything."""
    host, origin, site = (request.headers.get(name) for name in ("Host", "Origin", "Sec-Fetch-Site"))
    if not all(map(_is_plain_host, request.headers.getall("Host", ("localhost",)))):
        return False
    if request.method not in ("GET", "HEAD"):
        return origin is None and site is None
    return origin in (None, f"http://{host}") and (site is None or site in _OWN_SITES)


def _is_plain_host(header: str) -> bool:
    try:
        parts = urlsplit(f"//{header}")
        host = parts.hostname or ""
        return parts.username is None and (host == "localhost" or bool(ip_address(host)))
    except ValueError:
        return False
