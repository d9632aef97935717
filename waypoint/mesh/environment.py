"""What a program finds in its environment: how it learns where the other Services are.

Kubernetes' own service variables (`RATINGS_SERVICE_HOST`, `RATINGS_SERVICE_PORT`), `RATINGS_HOSTNAME`, and the
manifest's variables, in which the name of a Service is replaced by its address: there is no cluster DNS here. A name is
replaced where it stands for a host: in a `host:port` and in a URL; alone or in a list if its namespace qualifies it or
the variable's own name says so (`RATINGS_HOST`, not `DB_NAME`); never inside a sentence.
"""

import re
from collections.abc import Iterable, Mapping

from waypoint.mesh.manifests import Service, Variable

CLUSTER_DOMAIN = "cluster.local"

_IN_URL = re.compile(r"(://(?:[^/@\s]*@)?)([a-z0-9][a-z0-9.-]*)")
_WITH_PORT = re.compile(r"(^|,)([a-z0-9][a-z0-9.-]*)(?=:\d)")
_QUALIFIED = re.compile(r"(^|,)([a-z0-9][a-z0-9-]*\.[a-z0-9.-]+)(?=$|,)")
_ALONE = re.compile(r"(^|,)([a-z0-9][a-z0-9-]*)(?=$|,)")
_NAMES_A_HOST = re.compile(
    r"(?:^|[^a-z])(?:host|hostname|addr|address|server|endpoint|upstream|backend|target|broker|url|uri)(?:e?s)?\d*$",
    re.IGNORECASE,
)
"""The last word of a variable whose value is a host."""
_FIELDS = {
    "metadata.name": "POD_NAME",
    "metadata.namespace": "POD_NAMESPACE",
    "status.podIP": "POD_IP",
    "spec.serviceAccountName": "POD_SERVICE_ACCOUNT",
}


def pod_variables(namespace: str, name: str, service_account: str, address: str) -> dict[str, str]:
    """Who the pod is. All pods share one network, so a program has to listen on its own address: BIND_ADDRESS."""
    return {
        "BIND_ADDRESS": address,
        "POD_IP": address,
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
        "POD_SERVICE_ACCOUNT": service_account,
    }


def service_variables(services: Iterable[tuple[Service, str]], namespace: str) -> dict[str, str]:
    """What the kubelet would set for the Services of the pod's namespace, given with the addresses the pod uses."""
    variables = {}
    for service, address in services:
        if service.metadata.namespace == namespace and service.spec.ports:
            prefix = service.metadata.name.upper().replace("-", "_")
            variables[f"{prefix}_HOSTNAME"] = variables[f"{prefix}_SERVICE_HOST"] = address
            variables[f"{prefix}_SERVICE_PORT"] = str(service.spec.ports[0].port)
            for port in filter(lambda port: port.name, service.spec.ports):
                variables[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    return variables


def service_names(services: Iterable[tuple[Service, str]], namespace: str) -> dict[str, str]:
    """Every DNS name by which a pod of the namespace may call a Service, and the address behind it."""
    names = {}
    for service, address in services:
        name, home = service.metadata.name, service.metadata.namespace
        qualified = f"{name}.{home}"
        for alias in (qualified, f"{qualified}.svc", f"{qualified}.svc.{CLUSTER_DOMAIN}"):
            names[alias] = address
        if home == namespace:
            names[name] = address
    return names


def container_variables(
    variables: Iterable[Variable], about: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """The manifest's variables with Services' names resolved, without those that need a cluster. `about` is the pod."""
    return {
        variable.name: about[_FIELDS[variable.field]] if variable.field else resolve(variable, names)
        for variable in variables
        if not needs_cluster(variable)
    }


def needs_cluster(variable: Variable) -> bool:
    """True for a value from a Secret, a ConfigMap, or a field of the pod that only a cluster knows."""
    return variable.value_from is not None and variable.field not in _FIELDS


def resolve(variable: Variable, names: Mapping[str, str]) -> str:
    """The value with each Service's name that stands for a host replaced by its address."""
    return resolve_hosts(variable.value, names, is_host=_NAMES_A_HOST.search(variable.name) is not None)


def resolve_hosts(text: str, names: Mapping[str, str], *, is_host: bool) -> str:
    """The text with each Service's name in it replaced by its address. `is_host` says that one alone is a host, too."""

    def address(found: re.Match[str]) -> str:
        before, host = found.groups()
        return before + names.get(host, host)

    for pattern in (_IN_URL, _WITH_PORT, _QUALIFIED, *([_ALONE] if is_host else [])):
        text = pattern.sub(address, text)
    return text
