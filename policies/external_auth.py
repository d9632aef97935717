"""Asking somebody else whether a request may go on: who is asked, about what, and what the answer changes.

The question is a copy of the head as the client sent it, before rules edit it. An answer may change headers and query
parameters, and make a response of its own. It can't change where a message goes or where it ends, nor speak for the
proxies on the way: fields that do so are left out. One that can't be a field at all makes the whole answer worthless,
because something of the client's may have been written into it.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

from collections.abc import Iterable, Iterator
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
    """An answer that can't be carried out. It denies, even where no answer at all would allow."""


@dataclass(frozen=True, slots=True)
class Names:
    """Header names: as they are, and by their beginning or end."""

    exact: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()
    suffixes: tuple[bytes, ...] = ()

    def accepts(self, name: bytes) -> bool:
        return name in self.exact or name.startswith(self.prefixes) or name.endswith(self.suffixes)


NO_NAMES = Names()
ALL_NAMES = Names(prefixes=(b"",))


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Who is asked, under the `name` that is told and counted; `cluster` is None if it leads nowhere.

    `sent` are the client's headers that a question tells, `added` others that it tells besides. Of a body it tells up
    to `max_body_bytes`; a longer one is refused unless `takes_part`. `to_upstream` are headers of an answer that an
    endpoint gets, `to_client` those that a client gets when it is allowed, `to_denied` when it isn't: for HTTP, which
    doesn't say what its headers are for.
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


@dataclass(slots=True)
class Question:
    authorizer: Authorizer
    head: RequestHead


@dataclass(slots=True)
class Allowed:
    """What is changed of the request, and of its response."""

    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    query_set: tuple[Header, ...] = ()
    query_removed: tuple[bytes, ...] = ()

    def apply_to(self, head: RequestHead) -> None:
        if self.request_edit is not None:
            self.request_edit.apply_to(head)
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
    """The response that the client gets."""

    status: int
    headers: Headers
    body: bytes


def read_http(authorizer: Authorizer, head: ResponseHead, body: bytes) -> Allowed | Denied | None:
    """What an answer over HTTP means; None: nothing, because something failed there. Raises Worthless."""
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
    """Raises Worthless."""
    if not 200 <= status <= 599:
        raise Worthless(f"{status} is no status for a response")
    told: Headers = [it for it in fit(headers) if it[0] not in {b"date", b"server"}]
    return Denied(status, told, b"" if status in {204, 205, 304} else body)


def fit(fields: Iterable[Header]) -> list[Field]:
    """Those that another service may add to a message. Raises Worthless for what can't be a field."""
    return list(_fitting(fields))


def removable(names: Iterable[bytes]) -> tuple[HeaderName, ...]:
    return tuple(sorted(set(_removable(names))))


def _fitting(fields: Iterable[Header]) -> Iterator[Field]:
    for name, value in fields:
        name = name.lower()
        try:
            wire_text.token(name.removeprefix(b":"))
            text = wire_text.header_value(value)
        except ValueError as error:
            raise Worthless(f"{name!r} can't be a header with the value that it has: {error}") from None
        if _is_free(name):
            yield wire_text.header_name(name), text


def _removable(names: Iterable[bytes]) -> Iterator[HeaderName]:
    for name in filter(_is_free, names):
        with suppress(ValueError):
            yield wire_text.header_name(name)


def _is_free(name: bytes) -> bool:
    return name not in OF_A_HOP and not name.startswith((b":", *_OF_PROXIES))
