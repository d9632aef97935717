"""Entry points for browsers: a local address that maps to a port of a Service."""

from dataclasses import dataclass
from typing import Self

from l4.discovery.objects import is_port

FIRST_PORT = 9080


@dataclass(frozen=True, slots=True)
class Ingress:
    """`port` 0 means the first port of the Service."""

    namespace: str
    service: str
    port: int
    listen: tuple[str, int]

    @classmethod
    def parse(cls, text: str, position: int = 0) -> Self:
        """Parse `[NAMESPACE/]SERVICE[:PORT][=ADDRESS:PORT]`. Raises ValueError with an explanation.

        Without addresses, the first ingress listens on 127.0.0.1:9080, the next on 9081, and so on.
        """
        target, has_address, listen = text.partition("=")
        name, has_port, port = target.partition(":")
        namespace, has_namespace, service = name.rpartition("/")
        host, _, listen_port = listen.rpartition(":") if has_address else ("127.0.0.1", "", str(FIRST_PORT + position))
        if not service or not host or (has_namespace and not namespace):
            raise ValueError(f"{text!r} is not of the form [NAMESPACE/]SERVICE[:PORT][=ADDRESS:PORT]")
        return cls(
            namespace=namespace or "default",
            service=service,
            port=_port(text, port) if has_port else 0,
            listen=(host, _port(text, listen_port)),
        )

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}"


def _port(text: str, port: str) -> int:
    if not is_port(port):
        raise ValueError(f"{text!r} contains {port!r} instead of a port from 1 to 65535")
    return int(port)
