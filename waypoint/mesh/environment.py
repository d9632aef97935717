"""What a program finds in its environment: how it learns where the other Services are.

Kubernetes' own service variables (`RATINGS_SERVICE_HOST`, `RATINGS_SERVICE_PORT`), `RATINGS_HOSTNAME`, and the
manifest's variables, in which the name of a Service is replaced by its address: there is no cluster DNS here. A name is
replaced where it is a whole value, one of a list, a `host:port`, or the host of a URL; never inside a sentence.
"""

import re
from collections.abc import Iterable, Mapping

from waypoint.mesh.manifests import Service, Variable

CLUSTER_DOMAIN = "cluster.local"

_IN_URL = re.compile(r"(://(?:[^/@\s]*@)?)([a-z0-9][a-z0-9.-]*)")
_BARE = re.compile(r"(^|,)([a-z0-9][a-z0-9.-]*)(?=$|,|:\d)")
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
        variable.name: about[_FIELDS[variable.field]] if variable.field else resolve(variable.value, names)
        for variable in variables
        if not needs_cluster(variable)
    }


def needs_cluster(variable: Variable) -> bool:
    """True for a value from a Secret, a ConfigMap, or a field of the pod that only a cluster knows."""
    return variable.value_from is not None and variable.field not in _FIELDS


def resolve(value: str, names: Mapping[str, str]) -> str:
    """The value with each Service's name replaced by its address."""

    def address(found: re.Match[str]) -> str:
        before, host = found.groups()
        return before + names.get(host, host)

    return _BARE.sub(address, _IN_URL.sub(address, value))
