"""Where a browser enters the mesh: an address of this machine that stands for a port of a Service."""

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
        """Read `[NAMESPACE/]SERVICE[:PORT][=ADDRESS:PORT]`; raises ValueError with a sentence.

        Without an address, the first one listens on 127.0.0.1:9080, the next on 9081, and so on.
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
        raise ValueError(f"{text!r} has {port!r} where a port between 1 and 65535 is expected")
    return int(port)
