"""A discovery server (delta xDS) over TLS, which tests tell what to send and how to fail.

It keeps to the protocol as istiod does: the first response of a type has what the client does not know already, and
removes what is gone meanwhile. Later responses have what changed.
"""

import asyncio
import hashlib
import ipaddress
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from l4._proto.authorization_pb2 import Authorization
from l4._proto.workload_pb2 import Address, Service, Workload
from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from l4.xds import addresses, authorizations
from l4.xds.client import METHOD
from l4.xds.server import DiscoveryServer as Server
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address

ADDRESS, AUTHORIZATION = addresses.TYPE, authorizations.TYPE


@dataclass
class Stream:
    """One client's stream. `requests` are all that it has sent."""

    metadata: dict[str, str]
    context: Any
    requests: list[DeltaDiscoveryRequest] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)
    """Addresses that the client asked for, if it is `is_on_demand`."""
    is_on_demand: bool = False
    is_over: bool = False
    """The stream ends in order with the next request."""
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def write(self, message: bytes) -> None:
        """gRPC takes one message of a stream at a time."""
        async with self._writing:
            await self.context.write(message)

    def of(self, type_url: str) -> list[DeltaDiscoveryRequest]:
        return [it for it in self.requests if it.type_url == type_url]

    def errors(self, type_url: str = ADDRESS) -> list[str]:
        """What the client refused."""
        return [it.error_detail.message for it in self.of(type_url) if it.error_detail.message]


@dataclass
class DiscoveryServer:
    """`held` are types whose first response is not sent. `refuses` ends each stream at once. `is_mute`
    answers nothing that is asked on demand."""

    folder: Path
    ip: str = field(default_factory=address)
    held: set[str] = field(default_factory=set)
    refuses: grpc.StatusCode | None = None
    is_mute: bool = False
    streams: list[Stream] = field(default_factory=list)
    _resources: dict[str, dict[str, bytes]] = field(default_factory=lambda: {ADDRESS: {}, AUTHORIZATION: {}})
    _nonce: int = 0

    def __post_init__(self) -> None:
        self.pki = MeshPki(self.folder / "server")
        self.token_path = self.folder / "token"
        self.token_path.write_text("secret-1\n")

    @property
    def address(self) -> str:
        return f"{self.ip}:15012"

    @property
    def stream(self) -> Stream:
        """The newest one."""
        return self.streams[-1]

    def server(self) -> Server:
        return Server(
            self.address, self.pki.bundle_path, self.token_path, "Kubernetes", Node(id="ztunnel~1.1.1.1~z.ns~d")
        )

    @asynccontextmanager
    async def serving(self, *also: str) -> AsyncIterator[None]:
        """The certificate is for the server's own address, and for `also`."""
        pair = self.pki.leaf(ips=[self.ip, *also])
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(self._serve, DeltaDiscoveryRequest.FromString)
        service, _, name = METHOD.removeprefix("/").partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        server.add_secure_port(self.address, grpc.ssl_server_credentials([(pair.key_pem, pair.chain_pem)]))
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    # -- what the mesh has ---------------------------------------------------------------------------------------------

    async def put(self, *resources: Workload | Service | Authorization) -> None:
        """Set resources, and send them in one response of each type."""
        await self.put_raw(ADDRESS, dict(map(_named, (it for it in resources if not isinstance(it, Authorization)))))
        await self.put_raw(AUTHORIZATION, dict(map(_named, (it for it in resources if isinstance(it, Authorization)))))

    async def put_raw(self, type_url: str, contents: dict[str, bytes]) -> None:
        self._resources[type_url] |= contents
        if contents:
            await self._push(type_url, contents)

    async def remove(self, type_url: str, *names: str) -> None:
        for name in names:
            del self._resources[type_url][name]
        await self._push(type_url, (), names)

    async def respond_to_held(self) -> None:
        """Send the newest stream what was held."""
        for type_url in self.held:
            await self._first(self.stream, self.stream.of(type_url)[0])
        self.held.clear()

    async def send(self, response: DeltaDiscoveryResponse | bytes) -> None:
        """Send any bytes on the newest stream."""
        its = response if isinstance(response, bytes) else response.SerializeToString()
        await self.stream.write(its)

    async def end(self, code: grpc.StatusCode, details: str) -> None:
        """End the newest stream."""
        with suppress(grpc.aio.AbortError):
            await self.stream.context.abort(code, details)

    # -- the protocol --------------------------------------------------------------------------------------------------

    async def _serve(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: Any) -> None:
        stream = Stream(dict(context.invocation_metadata()), context)
        self.streams.append(stream)
        if self.refuses is not None:
            await context.abort(self.refuses, "not today")
        async for request in requests:
            if stream.is_over:
                return
            is_first = not stream.of(request.type_url)
            stream.requests.append(request)
            if is_first and request.type_url not in self.held:
                await self._first(stream, request)
            elif request.resource_names_subscribe and not self.is_mute:
                await self._answer(stream, request.resource_names_subscribe)
            stream.wanted -= set(request.resource_names_unsubscribe)

    async def _first(self, stream: Stream, request: DeltaDiscoveryRequest) -> None:
        if "*" in request.resource_names_unsubscribe:
            stream.is_on_demand = True
            await self._answer(stream, [it for it in request.resource_names_subscribe if it != "*"])
            return
        its, known = self._resources[request.type_url], request.initial_resource_versions
        changed = [name for name, content in its.items() if known.get(name) != _version(content)]
        await self._respond(stream, request.type_url, changed, [name for name in known if name not in its])

    async def _answer(self, stream: Stream, keys: Iterable[str]) -> None:
        """Send the addresses that the keys stand for; a key without any is removed."""
        stream.wanted |= set(keys)
        found = {key: self._found_by(key) for key in keys}
        names = {name for its in found.values() for name in its}
        await self._respond(stream, ADDRESS, sorted(names), [key for key, its in found.items() if not its])

    def _found_by(self, key: str) -> list[str]:
        """A service brings its workloads."""
        its = self._resources[ADDRESS]
        found = [name for name, content in its.items() if key in _keys(name, content)]
        members = [
            name for name, content in its.items() if set(found) & set(Address.FromString(content).workload.services)
        ]
        return found + members

    async def _push(self, type_url: str, changed: Iterable[str], removed: Iterable[str] = ()) -> None:
        for stream in self.streams:
            if stream.of(type_url) and not stream.context.done():
                names = list(changed)
                if stream.is_on_demand and type_url == ADDRESS:
                    wanted = {name for key in stream.wanted for name in self._found_by(key)}
                    names = [it for it in names if it in wanted]
                await self._respond(stream, type_url, names, removed)

    async def _respond(self, stream: Stream, type_url: str, names: Iterable[str], removed: Iterable[str] = ()) -> None:
        self._nonce += 1
        response = DeltaDiscoveryResponse(type_url=type_url, nonce=str(self._nonce), removed_resources=removed)
        for name in names:
            content = self._resources[type_url][name]
            aliases = _keys(name, content) - {name} if stream.is_on_demand and type_url == ADDRESS else ()
            resource = response.resources.add(name=name, version=_version(content), aliases=aliases)
            resource.resource.type_url, resource.resource.value = type_url, content
        await stream.write(response.SerializeToString())


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _keys(name: str, content: bytes) -> set[str]:
    """The keys by which a client may ask for an address: its name, and its IP addresses in the default network."""
    its = Address.FromString(content)
    raw = its.workload.addresses or [it.address for it in its.service.addresses]
    return {name, *(f"/{ipaddress.ip_address(it)}" for it in raw)}


def _named(resource: Message) -> tuple[str, bytes]:
    match resource:
        case Workload():
            return resource.uid, Address(workload=resource).SerializeToString()
        case Service():
            return f"{resource.namespace}/{resource.hostname}", Address(service=resource).SerializeToString()
        case Authorization():
            return f"{resource.namespace}/{resource.name}", resource.SerializeToString()
    raise TypeError(resource)
