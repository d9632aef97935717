"""AuthorizationPolicies as Envoy's RBAC filters, translated as istiod does; one Envoy judges many sets of policies.

Each set is for the requests whose header `x-case` has its number: the filters DENY and ALLOW take their rules from the
route. What a waypoint knows from a client's certificate is told by another filter, and is the same for all. The answer
is 200, or a refusal whose body is Envoy's reason for it.
https://github.com/istio/istio/tree/master/pilot/pkg/security/authz
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.kit.envoy_pieces import Address, Config, bootstrap, http, listener, named, typed

_FILTERS = "extensions.filters.http."
_RBAC = _FILTERS + "rbac.v3.RBAC"
_PRINCIPAL = "io.istio.peer_principal"
_TEMPLATE = "extensions.path.match.uri_template.v3.UriTemplateMatchConfig"


def judge(listen: Address, principal: str, cases: Iterable[Iterable[Mapping[str, Any]]]) -> Config:
    """An Envoy whose clients are all `principal`."""
    routes = [_route(number, list(policies)) for number, policies in enumerate(cases)]
    manager = http(
        "judge",
        routes,
        use_remote_address=False,
        normalize_path=True,
        local_reply_config={"body_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE_DETAILS%"}}},
    )
    state = {
        "object_key": _PRINCIPAL,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": f"spiffe://{principal}"}},
    }
    before = [
        named("state", _FILTERS + "set_filter_state.v3.Config", on_request_headers=[state]),
        named("deny", _RBAC),
        named("allow", _RBAC),
    ]
    manager["typed_config"]["http_filters"][:0] = before
    features = {"envoy.reloadable_features.http_reject_path_with_fragment": False}
    runtime = {"layers": [{"name": "istio", "static_layer": features}]}
    return {**bootstrap([listener("judge", listen, manager)], []), "layered_runtime": runtime}


def _route(number: int, policies: list[Mapping[str, Any]]) -> Config:
    header = {"name": "x-case", "string_match": {"exact": str(number)}}
    filters = {
        action.lower(): typed(_RBAC + "PerRoute", rbac={"rules": {"action": action, "policies": dict(entries)}})
        for action in ("DENY", "ALLOW")
        if (its := [it for it in policies if it["spec"]["action"] == action])
        and ((entries := list(_entries(its))) or action == "ALLOW")
    }
    return {
        "match": {"prefix": "/", "headers": [header]},
        "direct_response": {"status": 200},
        "typed_per_filter_config": filters,
    }


def _entries(policies: list[Mapping[str, Any]]) -> Iterator[tuple[str, Config]]:
    for policy in policies:
        for index, rule in enumerate(policy["spec"]["rules"]):
            name = f"ns[default]-policy[{policy['metadata']['name']}]-rule[{index}]"
            permissions, principals = _rule(rule)
            yield name, {"permissions": [_all(permissions, "rules")], "principals": [_all(principals, "ids")]}


def _rule(rule: Mapping[str, Any]) -> tuple[list[Config], list[Config]]:
    operations = [_all(_fields(it["operation"]), "rules") for it in rule.get("to", ())]
    sources = [_all(_fields(it["source"]), "ids") for it in rule.get("from", ())]
    permissions = [_any(operations, "rules")] if operations else []
    principals = [_any(sources, "ids")] if sources else []
    for condition in rule.get("when", ()):
        is_permission = condition["key"].startswith(("destination.", "connection."))
        kind = "rules" if is_permission else "ids"
        for values, is_not in ((condition.get("values"), False), (condition.get("notValues"), True)):
            if values:
                matcher = _any([it for value in values for it in _matchers(condition["key"], value)], kind)
                (permissions if is_permission else principals).append(_not(matcher, kind) if is_not else matcher)
    return permissions, principals


def _fields(fields: Mapping[str, list[str]]) -> list[Config]:
    found = []
    for name, values in fields.items():
        plain = name.removeprefix("not")
        kind = "rules" if plain.lower() in {"hosts", "ports", "methods", "paths"} else "ids"
        matcher = _any([it for value in values for it in _matchers(plain[0].lower() + plain[1:], value)], kind)
        found.append(_not(matcher, kind) if name.startswith("not") else matcher)
    return found


def _matchers(key: str, value: str) -> Iterator[Config]:
    match key:
        case "principals" | "source.principal":
            yield _identity(_text(value.removeprefix("spiffe://"), "spiffe://"))
        case "namespaces" | "source.namespace":
            yield _identity({"safe_regex": {"regex": f".*/ns/{value.replace('*', '.*')}/.*"}})
        case "trustDomains" | "source.trustDomain":
            yield _identity({"safe_regex": {"regex": f"spiffe://{value.replace('*', '[^/]*')}/.*"}})
        case "serviceAccounts" | "source.serviceAccount":
            namespace, _, name = value.rpartition("/")
            yield _identity({"safe_regex": {"regex": f".*/ns/{namespace or 'default'}/sa/{name}"}})
        case "ipBlocks" | "source.ip":
            yield {"direct_remote_ip": _network(value)}
        case "remoteIpBlocks" | "remote.ip":
            yield {"remote_ip": _network(value)}
        case "ports" | "destination.port":
            yield {"destination_port": int(value)}
        case "destination.ip":
            yield {"destination_ip": _network(value)}
        case "connection.sni":
            yield {"requested_server_name": _text(value)}
        case "methods":
            yield _header(":method", _text(value))
        case "hosts":
            for text in (value, f"{value}:*") if "*" not in value and ":" not in value.rpartition("]")[2] else (value,):
                yield _header(":authority", {**_text(text), **({} if text == "*" else {"ignore_case": True})})
        case "paths" if "{" in value:
            template = value.replace("{**}", "**").replace("{*}", "*")
            name = "envoy.path.match.uri_template.uri_template_matcher"
            yield {"uri_template": {"name": name, "typed_config": typed(_TEMPLATE, path_template=template)}}
        case "paths":
            yield {"url_path": {"path": _text(value)}}
        case _:
            yield _header(key.removeprefix("request.headers[").removesuffix("]").lower(), _text(value))


def _identity(text: Config) -> Config:
    return {"filter_state": {"key": _PRINCIPAL, "string_match": text}}


def _header(name: str, text: Config) -> Config:
    return {"header": {"name": name, "string_match": text}}


def _text(value: str, before: str = "") -> Config:
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return {"suffix": value[1:]}
    return {"prefix": before + value[:-1]} if value.endswith("*") else {"exact": before + value}


def _network(value: str) -> Config:
    address, _, bits = value.partition("/")
    return {"address_prefix": address, "prefix_len": int(bits) if bits else 128 if ":" in address else 32}


def _all(matchers: list[Config], kind: str) -> Config:
    return {f"and_{kind}": {kind: matchers}} if matchers else {"any": True}


def _any(matchers: list[Config], kind: str) -> Config:
    return {f"or_{kind}": {kind: matchers}}


def _not(matcher: Config, kind: str) -> Config:
    return {f"not_{kind.removesuffix('s')}": matcher}
