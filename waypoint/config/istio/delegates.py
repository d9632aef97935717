"""VirtualService `delegate`: replace one route by the routes of another object.

Each match of the delegate must be within a match of the route: it may only narrow it. Settings of the route itself
(timeout, retries, …) take precedence over those of the delegate.
https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate
"""

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from waypoint.config.istio.virtual_service import HeaderOperations, Headers, HTTPMatch, HTTPRoute, StringMatch

_SAID = ("rewrite", "timeout", "retries", "fault", "cors_policy")
_MIRRORS = ("mirror", "mirrors", "mirror_percentage", "mirror_percent", "mirror_percent_snake")
_TEXTS = ("uri", "scheme", "method", "authority")
_FIELDS = ("headers", "without_headers", "query_params")


def delegated(root: HTTPRoute, leaf: HTTPRoute) -> HTTPRoute | None:
    """Combine the root's route with a route of the delegate.

    Returns None if no match of the delegate is within the root's matches. Raises ValueError if the two contradict each
    other.
    """
    matches = tuple(_matches(root.match, leaf.match))
    if not matches and (root.match or leaf.match):
        return None
    said = {name: value for name in _SAID if (value := getattr(root, name)) is not None}
    if root.mirror is not None or root.mirrors:
        said |= {name: getattr(root, name) for name in _MIRRORS}
    headers = Headers(
        _edited(root.headers.request, leaf.headers.request), _edited(root.headers.response, leaf.headers.response)
    )
    name = "-".join(name for name in (root.name, leaf.name) if name)
    return replace(leaf, name=name, match=matches, headers=headers, **said)


def _edited(root: HeaderOperations, leaf: HeaderOperations) -> HeaderOperations:
    removed = dict.fromkeys((*leaf.remove, *root.remove))
    return HeaderOperations({**leaf.set, **root.set}, {**leaf.add, **root.add}, tuple(removed))


def _matches(roots: tuple[HTTPMatch, ...], leaves: tuple[HTTPMatch, ...]) -> Iterator[HTTPMatch]:
    if not roots or not leaves:
        yield from roots or leaves
        return
    for root in roots:
        for leaf in leaves:
            if _lies_within(root, leaf):
                yield _both(root, leaf)


def _lies_within(root: HTTPMatch, leaf: HTTPMatch) -> bool:
    if root.uri is not None and leaf.uri is not None and root.ignore_uri_case != leaf.ignore_uri_case:
        return False
    texts = ((getattr(root, name), getattr(leaf, name)) for name in _TEXTS)
    if not all(_is_narrower(its, narrower) for its, narrower in texts):
        return False
    for name in _FIELDS:
        asked: Mapping[str, StringMatch] = getattr(leaf, name)
        if not all(_is_narrower(its, asked.get(key)) for key, its in getattr(root, name).items()):
            return False
    if not (_agree(root.port, leaf.port) and _agree(root.source_namespace, leaf.source_namespace)):
        return False
    return all(leaf.source_labels.get(key, value) == value for key, value in root.source_labels.items())


def _agree(root: object, leaf: object) -> bool:
    return not root or not leaf or root == leaf


def _is_narrower(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Whether the leaf match is within the root match. Two different regular expressions cannot be compared."""
    if root is None or leaf is None or root in {leaf, StringMatch()}:
        return True
    text = leaf.exact if leaf.exact is not None else leaf.prefix
    return root.prefix is not None and text is not None and text.startswith(root.prefix)


def _both(root: HTTPMatch, leaf: HTTPMatch) -> HTTPMatch:
    return replace(
        leaf,
        ignore_uri_case=(leaf if leaf.uri is not None else root).ignore_uri_case,
        **{name: getattr(leaf, name) or getattr(root, name) for name in (*_TEXTS, "port", "source_namespace")},
        **{name: {**getattr(root, name), **getattr(leaf, name)} for name in (*_FIELDS, "source_labels")},
        gateways=leaf.gateways or root.gateways,
    )
