"""A request to ask about, as its client would send it.

The head goes through the data path's parser with its limits and hygiene, so that routes see what they would see. A
request that the data path rejects is rejected here too.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_address

from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.discovery.objects import canonical_ip
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Service
from policies.attributes import Headers, Identity, Peer, RequestHead
from policies.rewrite import split_port
from waypoint.admission.arrival import complete
from waypoint.config.snapshot import Destination
from waypoint.errors import BadRequest
from waypoint.http.events import Body
from waypoint.http.grpc_web import is_grpc_web, make_grpc
from waypoint.http.h1_request import RequestReader
from waypoint.http.settings import HttpSettings

NEW_REQUEST_ID = b"00000000-0000-4000-8000-000000000000"
"""Stands for the id that the waypoint generates if a request has none."""
MAX_TEXT = 64 << 10


class InvalidQuestion(ValueError):
    """The question is invalid. The message explains why to the user."""


@dataclass(frozen=True, slots=True)
class Question:
    """`to` is HOST or HOST:PORT as a client writes it. A short name refers to the client's namespace."""

    namespace: str
    account: str
    to: str
    method: str = "GET"
    target: str = "/"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, client: str, to: str, method: str, target: str, headers: tuple[str, ...]) -> "Question":
        """Parse a question. `client` is NAMESPACE/SERVICEACCOUNT, each header `name: value`. Raises InvalidQuestion."""
        namespace, _, account = client.partition("/")
        if not namespace or not account or "/" in account:
            raise InvalidQuestion(f"{client!r} is not of the form NAMESPACE/SERVICEACCOUNT")
        if not to:
            raise InvalidQuestion("the service is missing; give its name and port, such as reviews:9080")
        pairs = []
        for text in headers:
            name, colon, value = text.partition(":")
            if not colon or not name.strip():
                raise InvalidQuestion(f"header {text!r} is not of the form NAME: VALUE")
            pairs.append((name.strip(), value.strip()))
        texts = (to, method, target, *headers)
        if any(control in text for text in texts for control in "\r\n\0"):
            raise InvalidQuestion("method, path and headers must be single lines")
        if sum(map(len, texts)) > MAX_TEXT:
            raise InvalidQuestion(f"the request's head has more than {MAX_TEXT} characters, which is always rejected")
        return cls(namespace, account, to, method, target, tuple(pairs))

    def peer(self, settings: Settings) -> Peer:
        return Peer(Identity(settings.of(Mesh).trust_domain, self.namespace, self.account), "0.0.0.0", 0)  # noqa: S104

    def head(self, settings: Settings) -> RequestHead:
        """Return the canonical head. Raises ExchangeError if the request is rejected."""
        fields = [(name.encode(), value.encode()) for name, value in self.headers]
        if not any(name.lower() == b"host" for name, _ in fields):
            fields.insert(0, (b"host", self.to.encode()))
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        taken = _Taken()
        RequestReader(taken, settings.of(HttpSettings)).feed(
            b"%b %b HTTP/1.1\r\n%b\r\n" % (self.method.encode(), self.target.encode(), lines)
        )
        if taken.head is None:
            raise BadRequest("http1.incomplete_head")
        return taken.head

    def authority(self, registry: Registry) -> tuple[str, int]:
        """Return the authority of the client's tunnel: the service's address if it has one, else its hostname.

        An unknown host is returned unchanged. Raises InvalidQuestion if no port is given and the service has several.
        """
        host, port = _split(self.to)
        service = self._service(host, registry)
        if service is None:
            return host, port or 80
        if port is None:
            if len(service.ports) != 1:
                numbers = ", ".join(str(it.port) for it in service.ports) or "none"
                raise InvalidQuestion(f"{service.hostname} has the ports {numbers}; give one as HOST:PORT")
            port = service.ports[0].port
        return (host if registry.service_at(host) else next(iter(service.addresses), service.hostname)), port

    def _service(self, host: str, registry: Registry) -> Service | None:
        """Find a service by address, full name, `name`, `name.namespace` or `name.namespace.svc`."""
        name, _, rest = host.partition(".")
        return (
            registry.service_at(host)
            or registry.services.get(host)
            or registry.service_named(rest.removesuffix(".svc") or self.namespace, name)
        )


def as_exchanged(head: RequestHead, destination: Destination | None) -> RequestHead:
    """Return the head as an exchange receives it: with standard headers, and gRPC-Web converted to gRPC."""
    head = replace(head, headers=Headers(head.headers))
    if destination is not None and destination.app_protocol is AppProtocol.GRPC_WEB and is_grpc_web(head):
        make_grpc(head)
    complete(head.headers, dict(head.headers), lambda: NEW_REQUEST_ID)
    return head


class _Taken:
    """Stores the single head. Implements `h1_request.RequestConsumer`."""

    head: RequestHead | None = None

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self.head = self.head or head

    def request_body(self, data: bytes) -> None:
        pass

    def request_end(self, trailers: Headers) -> None:
        pass


def _split(to: str) -> tuple[str, int | None]:
    """Return the canonical host, and the port or None. Raises InvalidQuestion."""
    if to.count(":") > 1 and not to.startswith("["):
        host, port = to.encode(), b""
    else:
        host, port = split_port(to.encode())
    name = host.decode().strip("[]").lower().removesuffix(".")
    if port and not 0 < int(port) < 65536:
        raise InvalidQuestion(f"{to!r} has no port from 1 to 65535")
    try:
        ip_address(name)
    except ValueError:
        return name, int(port) if port else None
    return canonical_ip(name), int(port) if port else None
