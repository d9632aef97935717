"""External authorization: what an authorizer is asked, and what its answer changes.

The question is a copy of the head as the client sent it, before rules edit it. An answer may change headers and query
parameters, or carry a response. It cannot change the message's destination or framing, nor fields that proxies set:
such fields are ignored. An answer with a field that is not a valid header is rejected as a whole, because part of the
client's input may have been injected into it.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote_from_bytes, unquote_to_bytes

from policies import wire_text
from policies.attributes import ClusterName, Header, Headers, RequestHead, ResponseHead
from policies.rewrite import HeaderEdit
from policies.wire_text import OF_A_HOP, Field, HeaderName, Path

_OF_PROXIES = (b"x-envoy-", b"x-forwarded-client-cert")
_OF_THE_ANSWER = (b"content-", b"date", b"server")
_REMOVED = b"x-envoy-auth-headers-to-remove"


class Worthless(ValueError):
    """An answer that cannot be applied. The request is denied, even if the authorizer fails open."""


@dataclass(frozen=True, slots=True)
class Names:
    """A set of header names: exact names, prefixes and suffixes."""

    exact: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()
    suffixes: tuple[bytes, ...] = ()

    def accepts(self, name: bytes) -> bool:
        return name in self.exact or name.startswith(self.prefixes) or name.endswith(self.suffixes)


NO_NAMES = Names()
ALL_NAMES = Names(prefixes=(b"",))


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Configuration of one authorizer.

    - `name` appears in messages and metrics.
    - `cluster` is None if the provider's service cannot be resolved.
    - `sent` selects the client's headers that the question contains; `added` are additional headers.
    - `max_body_bytes` of the body are sent. A longer body is refused unless `takes_part` allows sending its beginning.
    - `to_upstream`, `to_client` and `to_denied` select the answer's headers that go to the endpoint, to the client of
      an allowed request, and to the client of a denied request. They apply to HTTP authorizers, whose answers do not
      say what each header is for.
    """

    name: str
    cluster: ClusterName | None
    is_grpc: bool = False
    timeout_seconds: float | None = None
    is_fail_open: bool = False
    status_on_error: int = 403
    path_prefix: Path | None = None
    sent: Names = NO_NAMES
    added: tuple[Field, ...] = ()
    max_body_bytes: int = 0
    takes_part: bool = False
    packs_as_bytes: bool = False
    to_upstream: Names = NO_NAMES
    to_client: Names = NO_NAMES
    to_denied: Names = ALL_NAMES

    def question(self, head: RequestHead) -> "Question":
        replaced = {b"expect", *(name for name, _ in self.added)}
        sent = [it for it in head.headers if it[0] not in replaced and self.sent.accepts(it[0])]
        return Question(self, replace(head, headers=[*sent, *self.added], upgrade=b"", overrides=None))


@dataclass(frozen=True, slots=True)
class CustomAuthorizers:
    """The authorizers that CUSTOM AuthorizationPolicies name, by provider."""

    by_name: Mapping[str, Authorizer]


@dataclass(slots=True)
class Question:
    authorizer: Authorizer
    head: RequestHead


@dataclass(slots=True)
class Allowed:
    """Changes to an allowed request and its response."""

    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    query_set: tuple[Header, ...] = ()
    query_removed: tuple[bytes, ...] = ()

    def apply_to(self, head: RequestHead) -> None:
        if self.request_edit is not None:
            self.request_edit.apply_to(head)
        self.edit_query(head)

    def edit_query(self, head: RequestHead) -> None:
        if self.query_set or self.query_removed:
            head.query = b"&".join(self._query(head.query))
            head.has_query = bool(head.query)

    def _query(self, query: bytes) -> Iterator[bytes]:
        gone = {*self.query_removed, *(name for name, _ in self.query_set)}
        for pair in query.split(b"&") if query else ():
            if unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" ")) not in gone:
                yield pair
        for name, value in self.query_set:
            yield f"{quote_from_bytes(name, '')}={quote_from_bytes(value, '')}".encode()


@dataclass(slots=True)
class Denied:
    """The response to a denied request."""

    status: int
    headers: Headers
    body: bytes


def read_http(authorizer: Authorizer, head: ResponseHead, body: bytes) -> Allowed | Denied | None:
    """Interpret an HTTP answer. Returns None if the authorizer failed (5xx). Raises Worthless."""
    if head.status >= 500:
        return None
    if head.status != 200:
        return denial(head.status, (it for it in head.headers if authorizer.to_denied.accepts(it[0])), body)
    up = fit(it for it in head.headers if authorizer.to_upstream.accepts(it[0]))
    down = fit(it for it in head.headers if authorizer.to_client.accepts(it[0]))
    removed = removable(
        name.strip() for key, value in head.headers if key == _REMOVED for name in value.lower().split(b",")
    )
    return Allowed(
        HeaderEdit(set=tuple(it for it in up if not it[0].startswith(_OF_THE_ANSWER)), remove=removed),
        HeaderEdit(
            set=tuple(it for it in down if it[0] != b"set-cookie"),
            add=tuple(it for it in down if it[0] == b"set-cookie"),
        ),
    )


def denial(status: int, headers: Iterable[Header], body: bytes) -> Denied:
    """Build a denial from an answer's status, headers and body. Raises Worthless."""
    if not 200 <= status <= 599:
        raise Worthless(f"{status} is not a valid response status")
    told: Headers = [it for it in fit(headers) if it[0] not in {b"date", b"server"}]
    return Denied(status, told, b"" if status in {204, 205, 304} else body)


def fit(fields: Iterable[Header]) -> list[Field]:
    """Return the fields that an authorizer may add to a message. Raises Worthless if one is not a valid header."""
    return list(_fitting(fields))


def removable(names: Iterable[bytes]) -> tuple[HeaderName, ...]:
    """Return the names that an authorizer may remove from a request."""
    return tuple(sorted(set(_removable(names))))


def _fitting(fields: Iterable[Header]) -> Iterator[Field]:
    for name, value in fields:
        name = name.lower()
        try:
            wire_text.token(name.removeprefix(b":"))
            text = wire_text.header_value(value)
        except ValueError as error:
            raise Worthless(f"the answer's header {name!r} is invalid: {error}") from None
        if _is_free(name):
            yield wire_text.header_name(name), text


def _removable(names: Iterable[bytes]) -> Iterator[HeaderName]:
    for name in filter(_is_free, names):
        with suppress(ValueError):
            yield wire_text.header_name(name)


def _is_free(name: bytes) -> bool:
    return name not in OF_A_HOP and not name.startswith((b":", *_OF_PROXIES))
