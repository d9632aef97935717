"""The kinds of objects that a waypoint reads; all others are counted and left alone."""

from l4.config.resources import Kinds
from l4.discovery import kubernetes
from waypoint.config.http_route import HTTPRoute

KINDS: Kinds = {**kubernetes.KINDS, ("gateway.networking.k8s.io", "HTTPRoute"): HTTPRoute}
