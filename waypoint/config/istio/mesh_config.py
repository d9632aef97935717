"""MeshConfig's `extensionProviders` that are authorizers, for AuthorizationPolicies of action CUSTOM.

As in Istio, MeshConfig is in the ConfigMap `istio` of the root namespace, as YAML under the key `mesh`. An invalid
provider counts as unknown: requests that would need it are denied. Providers of logs and traces are read by
`waypoint.config.istio.mesh_providers`; the other fields are process settings here.
https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, Struct, field

from l4.config.documents import Problem
from l4.config.durations import GoDuration, seconds_of
from l4.config.resources import Resource
from l4.discovery.objects import ROOT_NAMESPACE
from l4.discovery.registry import Registry
from policies import wire_text
from policies.attributes import ClusterName
from policies.authorizer import ALL_NAMES, NO_NAMES, Authorizer, Names
from waypoint.config.api_fields import HeaderName, is_path
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.gateway_api.route_authorizer import ALWAYS_TOLD, path_prefix_of
from waypoint.config.report import Report

_NAME, _KEY = "istio", "mesh"
_MAX_BODY_BYTES = 1 << 20  # kept in memory for each waiting request
_MAX_TEXT = 64 << 10
_STAR = "*"

Patterns = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=256)]


class ConfigMap(Struct, frozen=True):
    data: dict[str, str] = field(default_factory=dict)


class RequestBody(Struct, frozen=True, rename="camel"):
    max_request_bytes: Annotated[int, Meta(ge=1, le=_MAX_BODY_BYTES)]
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class Service(Struct, frozen=True, rename="camel"):
    """Common fields of both protocols. `service` is a hostname of the mesh, optionally prefixed by its namespace."""

    service: Annotated[str, Meta(min_length=1, max_length=320)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    timeout: GoDuration | None = None
    fail_open: bool = False
    status_on_error: Annotated[str, Meta(pattern=r"^([45][0-9]{2})?\Z")] | Annotated[int, Meta(ge=400, le=599)] = ""
    include_request_body_in_check: RequestBody | None = None


class HttpService(Service, frozen=True, rename="camel"):
    path_prefix: Annotated[str, Meta(max_length=1024)] = ""
    include_headers_in_check: Patterns = ()
    include_request_headers_in_check: Patterns = ()
    include_additional_headers_in_check: dict[HeaderName, Annotated[str, Meta(pattern=r"^[\x20-\x7e]*\Z")]] = field(
        default_factory=dict
    )
    headers_to_upstream_on_allow: Patterns = ()
    headers_to_downstream_on_allow: Patterns = ()
    headers_to_downstream_on_deny: Patterns = ()

    def __post_init__(self) -> None:
        if self.path_prefix and not is_path(self.path_prefix):
            raise ValueError(f"pathPrefix: {self.path_prefix!r} is not a path; it must begin with /")
        wire_text.fields(self.include_additional_headers_in_check)


class ExtensionProvider(Struct, frozen=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    envoy_ext_authz_http: HttpService | None = None
    envoy_ext_authz_grpc: Service | None = None


class Authorizers:
    """Authorizers by provider name."""

    def __init__(self, config_maps: Iterable[Resource[ConfigMap]], registry: Registry, clusters: Destinations) -> None:
        self.problems: list[Problem] = []
        self.by_name: dict[str, Authorizer] = {}
        self._registry = registry
        self._clusters = clusters
        for it in config_maps:
            if _is_mesh_config(it):
                report = Report(it)
                for place, provider in _providers(it.value.data[_KEY], report):
                    self._add(place, provider, report)
                self.problems += report.problems

    def _add(self, place: str, provider: ExtensionProvider, report: Report) -> None:
        http, service = provider.envoy_ext_authz_http, provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
        if service is None:
            return
        if provider.name in self.by_name:
            report.tell(place, f"an earlier provider has the same name {provider.name!r}", ConfigCode.PROVIDER_INVALID)
            return
        cluster = self._cluster(service)
        if cluster is None:
            sentence = f"no Service and no ServiceEntry has port {service.port} at {service.service}; its requests are"
            report.tell(f"{place}.service", f"{sentence} denied", ConfigCode.PROVIDER_INVALID)
        self.by_name[provider.name] = _authorizer(provider.name, cluster, service, http)

    def _cluster(self, service: Service) -> ClusterName | None:
        namespace, _, hostname = service.service.rpartition("/")
        found = self._registry.services.get(hostname)
        if found is None or namespace not in {"", found.namespace}:
            return None
        port = found.port(service.port)
        return self._clusters.of(found, port) if port is not None else None


def mesh_config(resource: Resource[ConfigMap]) -> tuple[str, Mapping[str, Any]] | None:
    """Return where the mesh's configuration is, and what it says. None if it is not there, or is not YAML."""
    found = _parsed(resource.value.data[_KEY]) if _is_mesh_config(resource) else None
    return (f"data.{_KEY}", found) if found is not None else None


def _is_mesh_config(resource: Resource[ConfigMap]) -> bool:
    return (resource.key.namespace, resource.key.name) == (ROOT_NAMESPACE, _NAME) and _KEY in resource.value.data


def _providers(text: str, report: Report) -> Iterator[tuple[str, ExtensionProvider]]:
    """Yield the valid providers with their positions."""
    place = f"data.{_KEY}"
    config = _parsed(text)
    if config is None:
        sentence = f"is not YAML, or is longer than {_MAX_TEXT} characters, so no provider is known"
        report.tell(place, sentence, ConfigCode.PROVIDER_INVALID)
        return
    its = config.get("extensionProviders")
    for index, it in enumerate(its if isinstance(its, list) else ()):
        try:
            yield f"{place}.extensionProviders[{index}]", msgspec.convert(it, ExtensionProvider)
        except msgspec.ValidationError as error:
            sentence = f"the provider is invalid: {error}; requests that need it are denied"
            report.tell(f"{place}.extensionProviders[{index}]", sentence, ConfigCode.PROVIDER_INVALID)


@lru_cache(maxsize=4)
def _parsed(text: str) -> Mapping[str, Any] | None:
    """Return the mesh's configuration, or None if it cannot be parsed. Takes milliseconds, and changes are rare."""
    if len(text) > _MAX_TEXT:
        return None
    try:
        config = yaml.safe_load(text)  # libyaml's own loader overflows the C stack on deep nesting
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return config if isinstance(config, Mapping) else {}


def _authorizer(name: str, cluster: ClusterName | None, service: Service, http: HttpService | None) -> Authorizer:
    body = service.include_request_body_in_check
    common: dict[str, Any] = {
        "timeout_seconds": seconds_of(service.timeout),
        "is_fail_open": service.fail_open,
        "status_on_error": int(service.status_on_error or 403),
        "max_body_bytes": body.max_request_bytes if body is not None else 0,
        "takes_part": body is not None and body.allow_partial_message,
        "packs_as_bytes": body is not None and body.pack_as_bytes,
    }
    if http is None:
        return Authorizer(name, cluster, is_grpc=True, sent=ALL_NAMES, **common)
    told = (ALWAYS_TOLD, *http.include_headers_in_check, *http.include_request_headers_in_check)
    added = http.include_additional_headers_in_check
    denied = http.headers_to_downstream_on_deny
    return Authorizer(
        name,
        cluster,
        path_prefix=path_prefix_of(http.path_prefix),
        sent=_names(told),
        added=tuple(sorted(wire_text.fields(added))),
        to_upstream=_names(http.headers_to_upstream_on_allow),
        to_client=_names(http.headers_to_downstream_on_allow),
        to_denied=_names((*denied, "www-authenticate", "location", "content-type")) if denied else ALL_NAMES,
        **common,
    )


def _names(patterns: Iterable[str]) -> Names:
    """Parse `abc`, `abc*` and `*abc`."""
    its = sorted({pattern.lower() for pattern in patterns})
    if not its:
        return NO_NAMES
    return Names(
        exact=tuple(it.encode() for it in its if _STAR not in {it[0], it[-1]}),
        prefixes=tuple(it[:-1].encode() for it in its if it[-1] == _STAR),
        suffixes=tuple(it[1:].encode() for it in its if it[0] == _STAR and it[-1] != _STAR),
    )
