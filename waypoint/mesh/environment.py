"""Environment of a program, through which it finds other Services.

It contains Kubernetes' service variables (`RATINGS_SERVICE_HOST`, `RATINGS_SERVICE_PORT`), `RATINGS_HOSTNAME`, and the
manifest's variables with names of Services replaced by addresses, because there is no cluster DNS. A name is replaced
where it is a host: in `host:port` and in URLs; alone or in a list, if it is qualified by a namespace or if the
variable's name implies it (`RATINGS_HOST`, not `DB_NAME`); never inside a sentence.
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
    """Return variables that describe the pod.

    All pods share one network, so a program must listen on its own address: BIND_ADDRESS.
    """
    return {
        "BIND_ADDRESS": address,
        "POD_IP": address,
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
        "POD_SERVICE_ACCOUNT": service_account,
    }


def service_variables(services: Iterable[tuple[Service, str]], namespace: str) -> dict[str, str]:
    """Return the kubelet's variables for the Services of the namespace. `services` have the pod's addresses."""
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
    """Return all DNS names by which pods of the namespace may call Services, with the addresses."""
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
    """Return the manifest's variables, resolved, without those that need a cluster. `about` describes the pod."""
    return {
        variable.name: about[_FIELDS[variable.field]] if variable.field else resolve(variable, names)
        for variable in variables
        if not needs_cluster(variable)
    }


def needs_cluster(variable: Variable) -> bool:
    """Whether the value comes from a Secret, a ConfigMap, or a pod field that only a cluster knows."""
    return variable.value_from is not None and variable.field not in _FIELDS


def resolve(variable: Variable, names: Mapping[str, str]) -> str:
    """Return the value with names of Services that are hosts replaced by addresses."""
    return resolve_hosts(variable.value, names, is_host=_NAMES_A_HOST.search(variable.name) is not None)


def resolve_hosts(text: str, names: Mapping[str, str], *, is_host: bool) -> str:
    """Replace names of Services in the text by addresses. `is_host`: a name alone is a host too."""

    def address(found: re.Match[str]) -> str:
        before, host = found.groups()
        return before + names.get(host, host)

    for pattern in (_IN_URL, _WITH_PORT, _QUALIFIED, *([_ALONE] if is_host else [])):
        text = pattern.sub(address, text)
    return text
