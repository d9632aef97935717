"""Tables of a ztunnel's `/config_dump`, with the columns of `istioctl ztunnel-config`.

Each function takes the dump and returns rows; a row has what the dump says, and what a table shows besides.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from l4.asking.options import count_text
from l4.asking.output import Column

Row = dict[str, Any]
Dump = Mapping[str, Any]


def workloads(dumped: Dump) -> list[Row]:
    services = {f"{it['namespace']}/{it['hostname']}": it for it in dumped["services"]}
    return [
        {
            "namespace": it["namespace"],
            "name": it["name"],
            "addresses": it["workloadIps"] or [it.get("hostname", "")],
            "node": it["node"],
            "waypoint": _waypoint(it.get("waypoint"), services),
            "protocol": it["protocol"],
            "status": it["status"],
            "identity": f"spiffe://{it['trustDomain']}/ns/{it['namespace']}/sa/{it['serviceAccount']}",
            "services": it.get("services", []),
            "policies": it.get("authorizationPolicies", []),
            "uid": it["uid"],
        }
        for it in _sorted(dumped["workloads"])
    ]


def services(dumped: Dump) -> list[Row]:
    known = {f"{it['namespace']}/{it['hostname']}": it for it in dumped["services"]}
    return [
        {
            "namespace": it["namespace"],
            "name": it["name"],
            "hostname": it["hostname"],
            "addresses": [address.rpartition("/")[2] for address in it["vips"]],
            "waypoint": _waypoint(it.get("waypoint"), known),
            "ports": it["ports"],
            "endpoints": len(it["endpoints"]),
            "healthy_endpoints": sum(one["status"] == "Healthy" for one in it["endpoints"].values()),
        }
        for it in _sorted(dumped["services"])
    ]


def policies(dumped: Dump) -> list[Row]:
    return [
        {
            "namespace": it["namespace"],
            "name": it["name"],
            "action": it["action"],
            "scope": it["scope"],
            "is_dry_run": bool(it.get("dryRun")),
            "rules": it["rules"],
            "hits": it.get("hits", {}),  # a ztunnel of an earlier version has none
        }
        for it in _sorted(dumped["policies"])
    ]


def certificates(dumped: Dump) -> list[Row]:
    return [
        {
            "identity": it["identity"],
            "kind": kind,
            "status": it["state"],
            "serial": f"{int(one['serialNumber']):x}",
            "valid_from": one["validFrom"],
            "expires": one["expirationTime"],
        }
        for it in dumped["certificates"]
        for kind, one in _chain(it)
    ]


def connections(dumped: Dump) -> list[Row]:
    return [
        {
            "namespace": state["info"]["namespace"],
            "pod": state["info"]["name"],
            "direction": direction,
            "source": it["src"],
            "destination": it["actualDst"],
            "called": it["originalDst"] or "",
            "protocol": it["protocol"],
        }
        for state in dumped["workloadState"].values()
        for direction, its in state["connections"].items()
        for it in its
    ]


WORKLOADS: list[Column] = [
    ("NAMESPACE", "namespace"),
    ("POD NAME", "name"),
    ("ADDRESS", lambda it: ",".join(it["addresses"])),
    ("NODE", "node"),
    ("WAYPOINT", "waypoint"),
    ("PROTOCOL", "protocol"),
    ("STATUS", "status"),
]
SERVICES: list[Column] = [
    ("NAMESPACE", "namespace"),
    ("SERVICE NAME", "name"),
    ("SERVICE VIP", lambda it: ",".join(it["addresses"])),
    ("WAYPOINT", "waypoint"),
    ("ENDPOINTS", lambda it: f"{it['healthy_endpoints']}/{it['endpoints']}"),
]
POLICIES: list[Column] = [
    ("NAMESPACE", "namespace"),
    ("POLICY NAME", "name"),
    ("ACTION", "action"),
    ("SCOPE", "scope"),
    ("DRY RUN", lambda it: "yes" if it["is_dry_run"] else "no"),
    ("HITS", lambda it: count_text(it["hits"])),
]
CERTIFICATES: list[Column] = [
    ("CERTIFICATE NAME", "identity"),
    ("TYPE", "kind"),
    ("STATUS", "status"),
    ("SERIAL NUMBER", "serial"),
    ("NOT BEFORE", "valid_from"),
    ("NOT AFTER", "expires"),
]
CONNECTIONS: list[Column] = [
    ("WORKLOAD", lambda it: f"{it['pod']}.{it['namespace']}"),
    ("DIRECTION", "direction"),
    ("SOURCE", "source"),
    ("DESTINATION", "destination"),
    ("CALLED", "called"),
    ("PROTOCOL", "protocol"),
]
TABLES = {
    "workloads": (workloads, WORKLOADS, "Show the workloads that a ztunnel knows, and the waypoint of each."),
    "services": (services, SERVICES, "Show the Services that a ztunnel knows, and how many endpoints are healthy."),
    "policies": (
        policies,
        POLICIES,
        "Show the authorization policies that a ztunnel enforces, and how often each has acted.",
    ),
    "certificates": (certificates, CERTIFICATES, "Show the certificates of a ztunnel's pods."),
    "connections": (connections, CONNECTIONS, "Show the open connections of a ztunnel's pods."),
}


def _sorted(found: Iterable[Row]) -> list[Row]:
    return sorted(found, key=lambda it: (it["namespace"], it["name"]))


def _waypoint(gateway: Mapping[str, Any] | None, services: Mapping[str, Row]) -> str:
    """Return the name of the waypoint's Service if it is known, else where it is."""
    if gateway is None:
        return ""
    destination = gateway["destination"]
    if (service := services.get(destination)) is not None:
        return str(service["name"])
    named = next((it["name"] for it in services.values() if destination in it["vips"]), None)
    return str(named or destination.rpartition("/")[2])


def _chain(it: Row) -> Iterable[tuple[str, Row]]:
    """Yield the certificates of an identity. One that has none yields its state."""
    chain, roots = it["certChain"], it["rootCerts"]
    if not chain:
        yield "Leaf", {"serialNumber": "0", "validFrom": "", "expirationTime": ""}
    for number, one in enumerate(chain):
        yield ("Intermediate" if number else "Leaf"), one
    for one in roots:
        yield "Root", one
