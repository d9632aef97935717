"""A snapshot as plain values: what `/config_dump` shows of a running waypoint, and `waypoint compile` without one."""

from policies.rewrite import HeaderEdit
from policies.route import Route, Rule, WeightedBackend
from waypoint.config.snapshot import Snapshot


def dump(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot as plain values, for `/config_dump`."""
    return {
        "version": snapshot.version,
        "destinations": {
            f"{host}:{port}": {
                "service": destination.service.hostname,
                "protocol": destination.app_protocol.value,
                "routes": [_dump_route(route) for route in destination.routes.routes],
            }
            for (host, port), destination in sorted(snapshot.destinations.items())
        },
        "clusters": {
            name: [
                {"address": str(endpoint), "identity": str(endpoint.identity or ""), "weight": endpoint.weight}
                for endpoint in config.endpoints
            ]
            for name, config in sorted(snapshot.clusters.items())
        },
        "status": {str(status.key): status.dump() for status in snapshot.statuses},
        "problems": [str(problem) for problem in snapshot.problems],
    }


def _dump_route(route: Route) -> dict[str, object]:
    match, rule = route.match, route.rule
    return {
        "path": f"{match.path.kind.name} {match.path.value.decode()}",
        "method": match.method.decode() if match.method else None,
        "headers": {field.name.decode(): field.match.value.decode() for field in match.headers},
        "query": {field.name.decode(): field.match.value.decode() for field in match.query},
        "rule": rule.name,
        "backends": [
            {"cluster": it.cluster or "unresolved", "weight": it.weight, **_dump_edits(it)} for it in rule.backends
        ],
        "timeout": rule.timeouts.request,
        **_dump_edits(rule),
    }


def _dump_edits(owner: Rule | WeightedBackend) -> dict[str, object]:
    edits = {"request_edit": owner.filters.request_edit, "response_edit": owner.filters.response_edit}
    return {name: _dump_edit(edit) for name, edit in edits.items() if edit is not None}


def _dump_edit(edit: HeaderEdit) -> dict[str, object]:
    return {
        "authority": edit.authority.decode() if edit.authority else None,
        "set": {name.decode(): value.decode() for name, value in edit.set},
        "add": {name.decode(): value.decode() for name, value in edit.add},
        "remove": [name.decode() for name in edit.remove],
    }
