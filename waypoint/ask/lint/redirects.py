"""Redirect loops.

For each match with a redirect, a sample request is created and followed like a browser does while it returns to the
same service. Matches by regular expression are skipped, because no sample can be derived.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from l4.config.documents import Problem
from policies.attributes import RequestHead
from policies.matching import Exact
from policies.path_match import PathKind
from policies.route import FieldMatch, Match, RouteTable, RuleSource
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject
from waypoint.config.snapshot import Destination

_MAX_HOPS = 10  # a browser gives up after 20
_METHOD_BECOMES_GET = frozenset({301, 302, 303})


def lint(subject: Subject) -> Iterator[Problem]:
    told: set[RuleSource] = set()
    for destination, table in subject.tables():
        for route in table.routes:
            source = route.rule.source
            if route.rule.filters.redirect is None or source is None or source in told:
                continue
            head = _sample(route.match, destination)
            if head is not None and table.find(head) is route.rule and _goes_round(table, destination, head):
                told.add(source)
                path = head.path.decode("latin-1")
                sentence = f"a client that requests {path} and follows the redirect ends up here again, in a loop"
                yield from subject.problem_of_rule(source, "filters", sentence, LintCode.REDIRECTS_TO_ITSELF)


def _goes_round(table: RouteTable, destination: Destination, head: RequestHead) -> bool:
    for _ in range(_MAX_HOPS):
        rule = table.find(head)
        redirect = rule.filters.redirect if rule is not None else None
        if redirect is None:
            return False
        location = urlsplit(redirect.location(head, destination.port))
        if not _is_own(location.scheme, location.hostname, location.port, destination):
            return False
        if redirect.status in _METHOD_BECOMES_GET and head.method != b"HEAD":
            head.method = b"GET"
        head.authority, head.path = location.netloc, location.path
    return True


def _is_own(scheme: bytes, host: bytes | None, port: int | None, destination: Destination) -> bool:
    service = destination.service
    names = {service.hostname, service.name, f"{service.name}.{service.namespace}"}
    names.add(f"{service.name}.{service.namespace}.svc")
    is_here = host is not None and host.decode("latin-1") in names
    return scheme == b"http" and is_here and (port or 80) == destination.port


def _sample(match: Match, destination: Destination) -> RequestHead | None:
    """Return a request that the match accepts, if one can be derived."""
    if match.path.kind is PathKind.REGEX:
        return None
    authority = f"{destination.service.hostname}:{destination.port}".encode()
    head = RequestHead(match.method or b"GET", authority, match.path.value, b"", [])
    for field in match.headers:
        if not isinstance(field.match, Exact):
            return None
        head.headers.append((field.name, field.match.value))
    query = _query(match.query)
    if query is None:
        return None
    head.query, head.has_query = query, bool(query)
    return head


def _query(fields: tuple[FieldMatch, ...]) -> bytes | None:
    pairs = [field.name + b"=" + field.match.value for field in fields if isinstance(field.match, Exact)]
    return b"&".join(pairs) if len(pairs) == len(fields) else None
