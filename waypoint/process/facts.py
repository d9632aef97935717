"""Tables of a running waypoint as lists of plain objects: `/routes`, `/policies`, `/connections`, `/certificates` and
`/endpoints` of the administration port, and the commands of the same names.

Each function takes what a worker knows and returns rows. Columns of one table are the same in all rows. Nothing secret
is in them: no key, and of a certificate only what anybody sees in a handshake.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from cryptography import x509

from l4.admin import Page
from l4.aiohttp import web
from l4.hbone.driver import Driver
from l4.identity.source import NoCertificate, OwnCertificate
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.verdicts import hits_of
from policies.filters import ORDER
from policies.host_port import host_port
from waypoint.config.dump import dump
from waypoint.filters.fault import FAULTS_INJECTED
from waypoint.filters.rate_limit import RATE_LIMITS
from waypoint.process.worker import Worker
from waypoint.upstream.state import described

Row = dict[str, Any]
Rows = list[Row]

_MATCH = ("path", "method", "headers", "query", "without", "clients", "server_name")
_ROUTE = {*_MATCH, "rule", "source", "backends"}
_POLICY_FIELDS = {"limits": "RateLimitPolicy", "fault_plan": "FaultPolicy"}


def routes(dumped: Mapping[str, Any]) -> Rows:
    """Return a row per route in the order in which they are tried. `dumped` is of `waypoint.config.dump`.

    A service has the same routes at its addresses and at its hostname: these are `destinations` of one row.
    """
    rows: Rows = []
    seen: dict[tuple[str, int, str, str, str, int], Row] = {}
    for address, destination in dumped["destinations"].items():
        tables = [("http", "", destination["routes"]), ("opaque", "", destination.get("opaque", []))]
        tables += [("http", name, table) for name, table in destination.get("consumer_routes", {}).items()]
        tables += [("opaque", name, table) for name, table in destination.get("consumer_opaque", {}).items()]
        for kind, consumer, table in tables:
            for number, route in enumerate(table):
                row = {
                    "service": destination["service"],
                    "port": int(address.rpartition(":")[2]),
                    "destinations": [],
                    "protocol": destination["protocol"],
                    "kind": kind,
                    "consumer_namespace": consumer,
                    "order": number,
                    "route": route["rule"],
                    "source": route.get("source", ""),
                    "match": {name: route[name] for name in _MATCH if name in route},
                    "backends": route["backends"],
                    "actions": {name: value for name, value in route.items() if name not in _ROUTE},
                }
                key = (row["service"], row["port"], kind, consumer, row["route"], number)
                if (same := seen.setdefault(key, row)) is row:
                    rows.append(row)
                same["destinations"].append(address)
    return rows


def policies(dumped: Mapping[str, Any], hits: Mapping[tuple[str, str], Mapping[str, int]]) -> Rows:
    """Return a row per policy with the services it applies to. `hits` are of `policy_hits`."""
    found: dict[tuple[str, str], Row] = {}

    def add(kind: str, name: str, service: str, **more: object) -> None:
        row = found.setdefault(
            (kind, name),
            {"kind": kind, "policy": name, "action": "", "is_dry_run": False, "rules": [], "services": []} | more,
        )
        if service not in row["services"]:
            row["services"].append(service)
        row["hits"] = dict(hits.get((kind, name), {}))

    for destination in dumped["destinations"].values():
        service = destination["service"]
        for it in destination.get("authorization", []):
            more = {"action": it["action"], "is_dry_run": bool(it.get("dry_run")), "rules": it["rules"]}
            add("AuthorizationPolicy", it["policy"], service, **more)
        for it in destination.get("authentication", []):
            add("RequestAuthentication", it["issuer"], service, action="authenticate")
        for route in (it for table in _tables(destination) for it in table):
            for owner in (route, *route["backends"]):
                for field in ORDER.values():
                    if field in owner:
                        kind, name = _named(field, owner[field], route)
                        add(kind, name, service, action=field, rules=_rules(owner[field]))
    return list(found.values())


def policy_hits(metrics: MeshMetrics) -> dict[tuple[str, str], dict[str, int]]:
    """Return how often each policy has acted since the start, by kind and name."""
    found = {("AuthorizationPolicy", name): counts for name, counts in hits_of(metrics).items()}

    def add(kind: str, name: str, outcome: str, count: object) -> None:
        counts = found.setdefault((kind, name.removeprefix(f"{kind} ")), {})
        counts[outcome] = counts.get(outcome, 0) + int(count)  # type: ignore[call-overload]

    for labels, count in metrics.of(RATE_LIMITS).snapshot().labelled():
        add("RateLimitPolicy", labels["policy"], labels["outcome"], count)
    for labels, count in metrics.of(FAULTS_INJECTED).snapshot().labelled():
        add("FaultPolicy", labels["plan"].partition(" for ")[0], labels["fault"], count)
    return found


def connections(worker: Worker) -> Rows:
    """Return a row per HBONE connection of clients and to endpoints, and per open connection of other bytes."""
    rows = [_connection("downstream", it) for it in worker.drivers]
    rows += [_connection("upstream", it) for it in worker.pool.drivers]
    for copy, opaque in worker.path.opaque.items():
        row = _row("opaque", opaque.connection.peer.ip, opaque.connection.peer.port, opaque.connection.peer.identity)
        row["destination"] = host_port(*opaque.connection.authority)
        rows.append(row | {"bytes_received": copy.received, "bytes_sent": copy.sent})
    return rows


def endpoints(described: Iterable[Mapping[str, Any]]) -> Rows:
    """Return a row per endpoint of each destination. `described` is of `waypoint.upstream.state`."""
    return [
        {"service": cluster["service"], "cluster": cluster["name"], "status": _status(it)} | it
        for cluster in described
        for it in cluster["endpoints"]
    ]


def certificates(own: OwnCertificate) -> Rows:
    """Return a row per certificate of our chain and of the trusted roots."""
    try:
        its = own.get().certificate
    except NoCertificate as error:
        return [_no_certificate(str(own.identity), str(error))]
    roots = x509.load_pem_x509_certificates(its.trust_bundle_pem)
    leaf, *others = x509.load_pem_x509_certificates(its.chain_pem)
    rows = [_certificate(str(own.identity), "leaf", leaf)]
    rows += [_certificate(str(own.identity), "intermediate", it) for it in others if it not in roots]
    return rows + [_certificate(str(own.identity), "root", it) for it in roots]


def select(rows: Rows, asked: Iterable[tuple[str, str]]) -> Rows:
    """Return the rows whose columns have the asked values; `*` and `?` are wildcards. Raises HTTPBadRequest."""
    for name, value in asked:
        if rows and name not in rows[0]:
            raise web.HTTPBadRequest(text=f"there is no column {name!r}; there are {', '.join(rows[0])}\n")
        rows = [it for it in rows if fnmatchcase(str(it[name]), value)]
    return rows


def _tables(destination: Mapping[str, Any]) -> Iterable[list[Row]]:
    yield destination["routes"]
    yield destination.get("opaque", [])
    yield from destination.get("consumer_routes", {}).values()
    yield from destination.get("consumer_opaque", {}).values()


def _named(field: str, policy: Any, route: Row) -> tuple[str, str]:
    """Return the kind and the name of a policy. Those of a route itself have the route's name."""
    kind = _POLICY_FIELDS.get(field)
    name = str(policy.get("policy") or policy.get("name") or "") if isinstance(policy, dict) else ""
    if kind is not None and name.startswith(f"{kind} "):
        return kind, name.removeprefix(f"{kind} ").partition(" for ")[0]
    return "route filter", f"{route['rule']} {field}"


def _rules(policy: Any) -> list[object]:
    return list(policy["rules"]) if isinstance(policy, dict) and isinstance(policy.get("rules"), list) else [policy]


def _connection(direction: str, driver: Driver) -> Row:
    row = _row(direction, driver.peer.ip, driver.peer.port, driver.peer.identity)
    row["tunnels"] = driver.tunnel_count
    return row | {"is_draining": driver.is_draining}


def _row(direction: str, ip: str, port: int, identity: object) -> Row:
    return {
        "direction": direction,
        "peer": host_port(ip, port),
        "identity": str(identity or ""),
        "destination": "",
        "tunnels": 0,
        "bytes_received": None,
        "bytes_sent": None,
        "is_draining": False,
    }


def _status(endpoint: Mapping[str, Any]) -> str:
    if endpoint["ejected_for_seconds"] is not None:
        return "ejected"
    return "unreachable" if endpoint["is_unreachable"] else "ready"


def _certificate(identity: str, kind: str, it: x509.Certificate) -> Row:
    before, after, now = it.not_valid_before_utc, it.not_valid_after_utc, datetime.now(UTC)
    return {
        "identity": identity,
        "kind": kind,
        "status": "valid" if before <= now <= after else "not valid",
        "serial": f"{it.serial_number:x}",
        "issuer": it.issuer.rfc4514_string(),
        "valid_from": f"{before:%Y-%m-%dT%H:%M:%SZ}",
        "expires": f"{after:%Y-%m-%dT%H:%M:%SZ}",
        "seconds_left": int((after - now).total_seconds()),
    }


def _no_certificate(identity: str, reason: str) -> Row:
    absent = {"serial": "", "issuer": "", "valid_from": "", "expires": "", "seconds_left": 0}
    return {"identity": identity, "kind": "leaf", "status": reason} | absent


TABLES = {
    "routes": "each route, in the order in which they are tried",
    "policies": "each policy, where it applies, and how often it has acted",
    "endpoints": "each endpoint of each destination, and its state",
    "connections": "open connections of clients and to endpoints",
    "certificates": "our certificate chain and the trusted roots",
}
OF_EACH_WORKER = frozenset({"endpoints", "connections"})
"""Tables of which each worker has rows of its own. All workers have the same rows of the others."""
COUNTED_BY_EACH_WORKER = frozenset({"policies"})
"""Tables whose rows are the same but for counts, which are added up."""
OF_SNAPSHOT = frozenset({"routes", "policies"})
"""Tables that are made in a thread: they are long, and the event loop does not change what they are made from."""


def table(worker: Worker, name: str) -> Rows:
    """Return one of TABLES."""
    match name:
        case "routes":
            return routes(dump(worker.holder.current))
        case "policies":
            return policies(dump(worker.holder.current), policy_hits(worker.metrics))
        case "endpoints":
            return endpoints(described(worker.path.clusters, worker.path.loop.time(), None))
        case "connections":
            return connections(worker)
        case "certificates":
            return certificates(worker.parts.certificate)
    raise LookupError(name)


def merged(tables: Iterable[Rows]) -> Rows:
    """Return the first table, with the hits of policies added up over all."""
    first, *others = tables
    for row, *same in zip(first, *others, strict=False):
        if "hits" in row:
            counts = Counter(row["hits"])
            for it in same:
                counts.update(it["hits"])
            row["hits"] = dict(counts)
    return first


def _rendered(rows: Rows, wanted: list[tuple[str, str]]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(select(rows, wanted)), indent=2) + b"\n"


def table_page(name: str, rows: Callable[[str], Awaitable[Rows]]) -> Page:
    """Return the page of one of TABLES. Query parameters select rows by the value of a column."""

    async def page(request: web.Request) -> web.Response:
        body = await asyncio.to_thread(_rendered, await rows(name), list(request.query.items()))
        return web.Response(body=body, content_type="application/json")

    return page
