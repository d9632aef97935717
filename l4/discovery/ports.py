"""The application protocol that a port declares."""

from l4.discovery.objects import ServicePortSpec
from l4.discovery.workload import AppProtocol

_BY_NAME = {
    "http": AppProtocol.HTTP,
    "ws": AppProtocol.HTTP,
    "http2": AppProtocol.HTTP2,
    "h2c": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "grpc-web": AppProtocol.GRPC_WEB,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    **dict.fromkeys(("tcp", "hbone", "mongo", "mysql", "redis"), AppProtocol.TCP),
}


def app_protocol(port: ServicePortSpec) -> AppProtocol:
    """Return the protocol from `appProtocol`, else from the port's name.

    The name is a protocol, or begins with one and a dash; `grpc-web` is a protocol itself.
    """
    if port.app_protocol is not None:
        return _BY_NAME.get(port.app_protocol.lower().removeprefix("kubernetes.io/"), AppProtocol.UNKNOWN)
    name = port.name.lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return AppProtocol.GRPC_WEB
    return _BY_NAME.get(name.partition("-")[0], AppProtocol.UNKNOWN)
