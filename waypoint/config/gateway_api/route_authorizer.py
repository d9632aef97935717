"""Compile the ExternalAuth filter of an HTTPRoute to its authorizer (GEP-1494).

A question over HTTP always contains the header Authorization. A question over gRPC contains all headers, unless a list
selects some. Without a list of response headers, all headers of an answer are added to the request, except those that
describe the answer itself (length, type, date and server).
https://gateway-api.sigs.k8s.io/geps/gep-1494/
"""

from collections.abc import Iterable

from policies import wire_text
from policies.attributes import ClusterName
from policies.authorizer import ALL_NAMES, Authorizer, Names
from policies.wire_text import Path
from waypoint.config.gateway_api import routes as api

ALWAYS_TOLD = "authorization"


def authorizer_of(name: str, cluster: ClusterName | None, auth: api.ExternalAuth) -> Authorizer:
    max_body_bytes = auth.forward_body.max_size if auth.forward_body is not None else 0
    if auth.http is None:
        allowed = auth.grpc.allowed_headers if auth.grpc is not None else ()
        return Authorizer(
            name,
            cluster,
            is_grpc=True,
            sent=_names(allowed) if allowed else ALL_NAMES,
            max_body_bytes=max_body_bytes,
            takes_part=True,
        )
    returned = auth.http.allowed_response_headers
    return Authorizer(
        name,
        cluster,
        path_prefix=path_prefix_of(auth.http.path),
        sent=_names((ALWAYS_TOLD, *auth.http.allowed_headers)),
        max_body_bytes=max_body_bytes,
        takes_part=True,
        to_upstream=_names(returned) if returned else ALL_NAMES,
    )


def path_prefix_of(text: str) -> Path | None:
    """Return the prefix for the path in the question, or None if empty."""
    prefix = text.rstrip("/")
    return wire_text.path(prefix) if prefix else None


def _names(names: Iterable[str]) -> Names:
    return Names(tuple(sorted({name.lower().encode() for name in names})))
