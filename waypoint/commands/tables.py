"""Subcommands that show tables of a running waypoint: `routes`, `endpoints`, `policies`, `connections`,
`certificates`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from l4.asking.options import count_text, output, show, target, where
from l4.asking.output import Column, size

if TYPE_CHECKING:
    from l4.asking.admin import Admin
    from l4.asking.reach import Target

Row = Mapping[str, Any]


def _service(hostname: str) -> str:
    """Return `reviews.default`: the rest is the same everywhere."""
    return ".".join(hostname.split(".")[:2]) if hostname.endswith(".svc.cluster.local") else hostname


def _match(row: Row) -> str:
    its = row["match"]
    words = [str(its["path"])] if "path" in its else []
    words += [its["method"]] if "method" in its else []
    for kind in ("headers", "query"):
        words += [
            f"{name}: {value}" if kind == "headers" else f"?{name}={value}" for name, value in its.get(kind, {}).items()
        ]
    words += [f"without {name}: {value}" for name, value in its.get("without", {}).items()]
    words += [f"SNI {its['server_name']}"] if "server_name" in its else []
    words += ["of some clients"] if "clients" in its else []
    return ", ".join(words)


def _backends(row: Row) -> str:
    """Return each backend with its share, if there are several."""
    backends = row["backends"]
    total = sum(it["weight"] for it in backends) or 1
    names = [(_cluster(it["cluster"]), it["weight"]) for it in backends]
    if len(names) == 1:
        return names[0][0]
    return ", ".join(f"{name} {100 * weight / total:.0f} %" for name, weight in names)


def _cluster(name: str) -> str:
    """Return `reviews.default:9080` of `inbound-vip|9080|http|reviews.default.svc.cluster.local`."""
    kind, _, rest = name.partition("|")
    port, _, host = rest.partition("|")
    return f"{_service(host.rpartition('|')[2])}:{port}" if host and kind else name


TABLES: dict[str, tuple[str, list[Column]]] = {
    "routes": (
        "Show each route of a running waypoint, in the order in which they are tried.",
        [
            ("SERVICE", lambda it: _service(it["service"])),
            ("PORT", "port"),
            ("PROTOCOL", lambda it: it["protocol"] if it["kind"] == "http" else "tcp"),
            ("FOR", lambda it: it["consumer_namespace"]),
            ("ROUTE", "route"),
            ("MATCH", _match),
            ("BACKENDS", _backends),
            ("ACTIONS", lambda it: ", ".join(it["actions"])),
        ],
    ),
    "endpoints": (
        "Show each endpoint of a running waypoint, and whether it is used.",
        [
            ("SERVICE", lambda it: _service(it["service"])),
            ("PORT", lambda it: it["cluster"].split("|")[1]),
            ("ENDPOINT", "address"),
            ("WORKLOAD", "workload"),
            ("STATUS", "status"),
            ("WEIGHT", "weight"),
            ("REQUESTS", "requests"),
            ("CONNECTIONS", "connections"),
            ("TUNNEL", lambda it: "HBONE" if it["identity"] else "none"),
        ],
    ),
    "policies": (
        "Show each policy of a running waypoint, where it applies, and how often it has acted.",
        [
            ("KIND", "kind"),
            ("POLICY", "policy"),
            ("ACTION", lambda it: it["action"] + (" (dry run)" if it["is_dry_run"] else "")),
            ("RULES", lambda it: len(it["rules"])),
            ("SERVICES", lambda it: ", ".join(map(_service, it["services"]))),
            ("HITS", lambda it: count_text(it["hits"])),
        ],
    ),
    "connections": (
        "Show the open connections of a running waypoint: from clients, to endpoints, and of other bytes than HTTP.",
        [
            ("DIRECTION", "direction"),
            ("PEER", "peer"),
            ("IDENTITY", "identity"),
            ("DESTINATION", "destination"),
            ("TUNNELS", "tunnels"),
            ("RECEIVED", lambda it: size(it["bytes_received"])),
            ("SENT", lambda it: size(it["bytes_sent"])),
            ("DRAINING", lambda it: "yes" if it["is_draining"] else "no"),
        ],
    ),
    "certificates": (
        "Show the certificate chain of a running waypoint, and the roots that it trusts.",
        [
            ("IDENTITY", "identity"),
            ("TYPE", "kind"),
            ("STATUS", "status"),
            ("SERIAL NUMBER", "serial"),
            ("ISSUER", "issuer"),
            ("NOT AFTER", "expires"),
        ],
    ),
}

CONDITIONS: list[Column] = [
    ("OBJECT", "object"),
    ("FOR", "for"),
    ("CONDITION", "type"),
    ("STATUS", "status"),
    ("REASON", "reason"),
    ("MESSAGE", "message"),
]


def conditions(statuses: Mapping[str, Any]) -> list[Row]:
    """Return a row per condition of the objects' status. `for` is the parent, the target or the listener."""
    return [
        {"object": name, "for": place, **condition}
        for name, status in statuses.items()
        for place, its in _places(status)
        for condition in its
    ]


def _places(status: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    yield "", status.get("conditions", [])
    for it in status.get("listeners", []):
        yield f"listener {it['name']}", it["conditions"]
    for places, ref in (("parents", "parentRef"), ("ancestors", "ancestorRef")):
        for it in status.get(places, []):
            yield _ref(it[ref]), it["conditions"]


def _ref(ref: Mapping[str, Any]) -> str:
    """Return `Service shop/reviews:9080`, without what is not given."""
    name = "/".join(filter(None, (ref.get("namespace"), ref["name"])))
    section = ref.get("port") or ref.get("sectionName")
    return f"{ref.get('kind') or 'Gateway'} {name}{f':{section}' if section else ''}"


def _command(name: str) -> click.Command:
    text, columns = TABLES[name]

    @click.command(name, help=text)
    @target("waypoint")
    @where
    @output
    def command(target: "Target", where: tuple[str, ...], output: str) -> None:
        async def ask(admin: "Admin") -> list[Row]:
            return await admin.json(f"/{name}")  # type: ignore[no-any-return]

        show(target, ask, columns, output, where)

    return command


COMMANDS = tuple(map(_command, TABLES))
