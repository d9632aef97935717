"""Edits of headers, authority and path, and redirects.

Implements HTTPRoute's RequestHeaderModifier, ResponseHeaderModifier, URLRewrite and RequestRedirect, and their
equivalents in VirtualService. All text was validated when it was read (`policies.wire_text`), so applying an edit
cannot fail and cannot corrupt a message.
https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter
"""

from dataclasses import dataclass, replace
from enum import Enum

from policies.attributes import Headers, RequestHead
from policies.header_format import FormattedHeader, Situation
from policies.matching import Regex
from policies.wire_text import Authority, Field, HeaderName, Path, Query, Substitution


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """`set` replaces all values of a header, `add` appends a value, and `remove` deletes. Names are lower-case.

    The order is set, add, remove. Setting `Host` changes the authority.
    """

    set: tuple[Field, ...] = ()
    add: tuple[Field, ...] = ()
    remove: tuple[HeaderName, ...] = ()
    authority: Authority | None = None
    formatted: tuple[FormattedHeader, ...] = ()
    """Headers with values computed per request. `filled` turns them into ordinary ones."""

    @property
    def replaced_names(self) -> frozenset[bytes]:
        """Names of headers whose original values are replaced or removed."""
        formatted = (it.name for it in self.formatted if not it.is_added)
        return frozenset({*self.remove, *(name for name, _ in self.set), *formatted})

    def filled(self, situation: Situation) -> "HeaderEdit":
        """Return the edit with computed values filled in for one request."""
        values = [(it.is_added, (it.name, it.format.fill(situation))) for it in self.formatted]
        return replace(
            self,
            set=(*self.set, *(field for is_added, field in values if not is_added)),
            add=(*self.add, *(field for is_added, field in values if is_added)),
            formatted=(),
        )

    def apply(self, headers: Headers) -> Headers:
        """Return a new list with the edit applied."""
        gone = {*self.remove, *(name for name, _ in self.set)}
        edited = [header for header in headers if header[0] not in gone] if gone else list(headers)
        edited.extend(header for header in self.set if header[0] not in self.remove)
        edited.extend(header for header in self.add if header[0] not in self.remove)
        return edited

    def apply_to(self, head: RequestHead) -> None:
        """Apply the edit to a request head."""
        head.headers = self.apply(head.headers)
        if self.authority is not None:
            head.authority = self.authority


@dataclass(frozen=True, slots=True)
class PathEdit:
    """Replace the whole path (ReplaceFullPath), or the matched prefix (ReplacePrefixMatch).

    `replaces` is the prefix without its trailing slash, empty for `/`, or None to replace the whole path. An empty
    result becomes `/`.
    """

    value: Path
    replaces: bytes | None = None

    def apply(self, path: bytes) -> bytes:
        if self.replaces is None:
            return self.value
        rest = path[len(self.replaces) :]
        return (self.value.removesuffix(b"/") + rest if rest else self.value) or b"/"


@dataclass(frozen=True, slots=True)
class TextPrefixEdit:
    """Replace the first `length` characters of the path by `value`. Istio's prefix rewrite ignores segments."""

    value: Path
    length: int

    def apply(self, path: bytes) -> bytes:
        return self.value + path[self.length :]


@dataclass(frozen=True, slots=True)
class RegexEdit:
    """Replace every match of `pattern` in the path by `substitution`, where `\\1` is the text of the first group."""

    pattern: Regex
    substitution: Substitution

    def apply(self, path: bytes) -> bytes:
        path = self.pattern.replace(path, self.substitution)
        return path if path.startswith(b"/") else b"/" + path


AnyPathEdit = PathEdit | TextPrefixEdit | RegexEdit


@dataclass(frozen=True, slots=True)
class UrlRewrite:
    """Change the request's authority, path or query before it is sent to the endpoint.

    The endpoint gets the original path in `x-envoy-original-path`. `query` is put before the request's own query.
    """

    hostname: Authority | None = None
    path: AnyPathEdit | None = None
    query: Query | None = None

    def apply_to(self, head: RequestHead) -> None:
        if self.hostname is not None:
            head.authority = self.hostname
        if self.path is None:
            return
        path = self.path.apply(head.path)
        if path != head.path or self.query is not None:
            head.headers.append((b"x-envoy-original-path", head.target))
            head.path = path
        if self.query is not None:
            head.query = b"%b&%b" % (self.query, head.query) if head.query else self.query
            head.has_query = True


_DEFAULT_PORTS = {b"http": 80, b"https": 443}


class PortSource(Enum):
    """Where a redirect without a configured port takes its port from."""

    HOST = "host"
    """The port that the client wrote in the host, as in Envoy. Port 80 is dropped if the scheme becomes https."""
    LISTENER = "listener"
    """The port that the request was sent to."""
    SCHEME = "scheme"
    """The scheme's default port, which is not written."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect response. None keeps the request's value; `query` replaces the request's query.

    A scheme's default port is not written.
    """

    scheme: bytes | None = None
    hostname: Authority | None = None
    path: AnyPathEdit | None = None
    port: int | None = None
    status: int = 302
    port_source: PortSource = PortSource.HOST
    query: Query | None = None

    def location(self, head: RequestHead, listener_port: int) -> bytes:
        """Return an absolute URI. The request's scheme is always http, because a waypoint does not see inside TLS."""
        scheme = self.scheme or b"http"
        path = self.path.apply(head.path) if self.path is not None else head.path
        if self.query is not None:
            path = b"%b?%b" % (path, self.query)
        elif head.has_query:
            path = b"%b?%b" % (path, head.query)
        return b"%b://%b%b" % (scheme, self._authority(scheme, head.authority, listener_port), path)

    def _authority(self, scheme: bytes, asked: bytes, listener_port: int) -> bytes:
        host, its_port = split_port(asked)
        if self.hostname is not None:
            host, its_port = split_port(self.hostname)
        elif self.port_source is not PortSource.HOST or its_port in {b"80", b"%d" % _DEFAULT_PORTS[scheme]}:
            its_port = b""
        port = listener_port if self.port is None and self.port_source is PortSource.LISTENER else self.port
        if port is not None:
            its_port = b"%d" % port if port != _DEFAULT_PORTS[scheme] else b""
        return b"%b:%b" % (host, its_port) if its_port else host


def split_port(authority: bytes) -> tuple[bytes, bytes]:
    """Split an authority into host and port. The port is empty if absent. `[::1]:80` keeps its brackets."""
    host, colon, port = authority.rpartition(b":")
    return (host, port) if colon and port.isdigit() and not host.endswith(b":") else (authority, b"")
