"""What a route changes of a request or response: headers, authority, path; and redirects, which change where it goes.

HTTPRoute's RequestHeaderModifier, ResponseHeaderModifier, URLRewrite and RequestRedirect. Everything is checked when
it is built, so that applying it cannot fail.
https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter
"""

from dataclasses import dataclass

from policies.attributes import Header, Headers, RequestHead
from policies.matching import Regex


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """`set` replaces all values of a name, `add` appends one, `remove` deletes; names are lower-case.

    They apply in the order set, add, remove. Setting `Host` is changing the authority.
    """

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[bytes, ...] = ()
    authority: bytes | None = None

    @property
    def replaced_names(self) -> frozenset[bytes]:
        """Of headers whose values don't come through."""
        return frozenset({*self.remove, *(name for name, _ in self.set)})

    def apply(self, headers: Headers) -> Headers:
        """A new list of headers with the edit made."""
        gone = {*self.remove, *(name for name, _ in self.set)}
        edited = [header for header in headers if header[0] not in gone] if gone else list(headers)
        edited.extend(header for header in self.set if header[0] not in self.remove)
        edited.extend(header for header in self.add if header[0] not in self.remove)
        return edited

    def apply_to(self, head: RequestHead) -> None:
        """Make the edit in a request's head."""
        head.headers = self.apply(head.headers)
        if self.authority is not None:
            head.authority = self.authority


@dataclass(frozen=True, slots=True)
class PathEdit:
    """A new path (ReplaceFullPath), or one in place of the prefix that matched (ReplacePrefixMatch).

    `replaces` is that prefix without its trailing slash, empty for `/`; None replaces the whole path. A path never
    becomes empty: it is `/` then.
    """

    value: bytes
    replaces: bytes | None = None

    def apply(self, path: bytes) -> bytes:
        if self.replaces is None:
            return self.value
        rest = path[len(self.replaces) :]
        return (self.value.removesuffix(b"/") + rest if rest else self.value) or b"/"


@dataclass(frozen=True, slots=True)
class TextPrefixEdit:
    """`value` in place of the first `length` characters of the path: Istio's, which knows no segments."""

    value: bytes
    length: int

    def apply(self, path: bytes) -> bytes:
        return self.value + path[self.length :] or b"/"


@dataclass(frozen=True, slots=True)
class RegexEdit:
    """Whatever `pattern` finds in the path becomes `substitution`, in which `\\1` is what its first group found."""

    pattern: Regex
    substitution: bytes

    def apply(self, path: bytes) -> bytes:
        path = self.pattern.replace(path, self.substitution)
        return path if path.startswith(b"/") else b"/" + path


AnyPathEdit = PathEdit | TextPrefixEdit | RegexEdit


@dataclass(frozen=True, slots=True)
class UrlRewrite:
    """The endpoint is asked for something else; it learns the original path from `x-envoy-original-path`."""

    hostname: bytes | None = None
    path: AnyPathEdit | None = None

    def apply_to(self, head: RequestHead) -> None:
        if self.hostname is not None:
            head.authority = self.hostname
        if self.path is None:
            return
        path = self.path.apply(head.path)
        if path != head.path:
            head.headers.append((b"x-envoy-original-path", head.target))
            head.path = path


_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


@dataclass(frozen=True, slots=True)
class Redirect:
    """The client is told to ask elsewhere. None keeps what the request has.

    The port is the configured one; else, when a scheme is configured, that scheme's; else the one that the request
    used, if it `keeps_port`. A scheme's own port is not written.
    """

    scheme: bytes | None = None
    hostname: bytes | None = None
    path: AnyPathEdit | None = None
    port: int | None = None
    status: int = 302
    keeps_port: bool = True

    def location(self, head: RequestHead) -> bytes:
        """An absolute URI; what is asked for was asked over http, for TLS is opaque to a waypoint."""
        scheme = self.scheme or b"http"
        host, own_port = split_port(head.authority)
        kept = own_port if self.scheme is None and self.keeps_port else b""
        port = b"%d" % self.port if self.port is not None else kept
        shown = b":" + port if port and port != _DEFAULT_PORTS[scheme] else b""
        path = self.path.apply(head.path) if self.path is not None else head.path
        query = b"?" + head.query if head.has_query else b""
        return b"%b://%b%b%b%b" % (scheme, self.hostname or host, shown, path, query)


def split_port(authority: bytes) -> tuple[bytes, bytes]:
    """Host and port of an authority; the port is empty when there is none. `[::1]:80` keeps its brackets."""
    host, colon, port = authority.rpartition(b":")
    return (host, port) if colon and port.isdigit() and not host.endswith(b":") else (authority, b"")
