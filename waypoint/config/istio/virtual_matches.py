"""Compile the matches of a VirtualService's HTTP route."""

from collections.abc import Iterator, Mapping

from l4.discovery.registry import Registry
from policies.matching import ANYTHING, Exact, Prefix, Regex, StringMatch
from policies.path_match import PathKind, PathMatch
from policies.path_normalization import BASE, PathNormalization
from policies.route import FieldMatch, Match, SourceMatch
from waypoint.config.istio import virtual_service as api

_ANY_PATH = PathMatch(PathKind.TEXT_PREFIX, b"/")


def match_of(match: api.HTTPMatch, registry: Registry, normalization: PathNormalization = BASE) -> Match:
    """Compile one match. `registry` resolves clients that are selected by labels."""
    pseudo = ((b":scheme", match.scheme), (b":method", match.method), (b":authority", match.authority))
    return Match(
        path=_path(match, normalization),
        headers=(
            *(FieldMatch(name, string_match(it)) for name, it in pseudo if it is not None),
            *_fields(match.headers, lower=True),
        ),
        query=tuple(_fields(match.query_params, lower=False)),
        without=tuple(_fields(match.without_headers, lower=True)),
        source=_clients(match, registry),
    )


def _clients(match: api.HTTPMatch, registry: Registry) -> SourceMatch | None:
    if not match.source_namespace and not match.source_labels:
        return None
    ips = None
    if wanted := match.source_labels.items():
        workloads = registry.workloads.values()
        ips = frozenset(ip for it in workloads if wanted <= it.labels.items() for ip in it.addresses)
    return SourceMatch(match.source_namespace or None, ips)


def string_match(match: api.StringMatch) -> StringMatch:
    """The regular expression `*` is Istio's way to match anything."""
    if match.exact is not None:
        return Exact(match.exact.encode())
    if match.prefix is not None:
        return Prefix(match.prefix.encode())
    if match.regex is not None and match.regex != "*":
        return Regex.parse(match.regex)
    return ANYTHING


def _fields(matches: Mapping[str, api.StringMatch], *, lower: bool) -> Iterator[FieldMatch]:
    for name, match in matches.items():
        yield FieldMatch((name.lower() if lower else name).encode(), string_match(match))


def _path(match: api.HTTPMatch, normalization: PathNormalization) -> PathMatch:
    uri = match.uri
    if uri is None:
        return _ANY_PATH
    if uri.regex is not None:
        return PathMatch(PathKind.REGEX, uri.regex.encode(), Regex.parse(uri.regex if uri.regex != "*" else ".*"))
    if uri.exact is not None:
        kind, value = PathKind.EXACT, normalization.of_path(uri.exact.encode())
    else:
        kind, value = PathKind.TEXT_PREFIX, normalization.of_prefix((uri.prefix or "").encode())
    return PathMatch(kind, value.lower() if match.ignore_uri_case else value, ignores_case=match.ignore_uri_case)
