"""Specs of our own policies, and what an API server with our CRDs says of each; and all such objects of this project.

tests/waypoint/config/test_crds.py compares them with our decoder, and tests/cluster/test_crds.py with an API server.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from waypoint.config.ours.attached import ATTACHED, GROUP

ROOT = Path(__file__).parents[2]
KINDS = {it.name: it.schema for it in ATTACHED}


def crd_of(kind: str) -> dict[str, Any]:
    crd: dict[str, Any] = yaml.safe_load((ROOT / f"deploy/crds/{kind.lower().removesuffix('y')}ies.yaml").read_text())
    return crd


@cache
def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = crd_of(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def is_decoded(document: dict[str, Any]) -> bool:
    try:
        msgspec.convert(document, KINDS[document["kind"]])
    except msgspec.ValidationError:
        return False
    return True


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """All objects of our kinds in documentation, examples and golden files, each with its place."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    texts = [
        *(
            (page, text)
            for page in pages
            for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.S | re.M)
        ),
        *(
            (path, path.read_text())
            for name in ("examples", "tests/golden")
            for path in sorted((ROOT / name).rglob("*.yaml"))
        ),
    ]
    for path, text in texts:
        if f"{GROUP}/v1" in text:
            for document in yaml.safe_load_all(text):
                if document and document.get("apiVersion", "").startswith(f"{GROUP}/") and document["kind"] in KINDS:
                    yield f"{path.relative_to(ROOT)} {document['metadata']['name']}", document


@dataclass(frozen=True, slots=True)
class Sample:
    """`refusal` is a part of the API server's answer, or empty if it accepts the object."""

    kind: str
    spec: str
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.spec[:100]}"

    @property
    def document(self) -> dict[str, Any]:
        return {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": "sample"},
            "spec": yaml.safe_load(self.spec),
        }


SERVICE = "targetRefs: [{group: '', kind: Service, name: app}]"
LIMIT = "limit: {requests: 5, unit: Minute}"
ABORT = "abort: {httpStatus: 500, percentage: 10}"


def _rate(rule: str, refusal: str = "", more: str = "") -> Sample:
    return Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{{{LIMIT}, {rule}}}], {more}}}", refusal)


def _limit(limit: str, refusal: str = "", more: str = "") -> Sample:
    return Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{{limit: {{{limit}}}}}], {more}}}", refusal)


def _global(fields: str, refusal: str = "") -> Sample:
    return _rate("name: a", refusal, f"scope: Global, global: {{{fields}}}")


def _selecting(selector: str, refusal: str = "") -> Sample:
    return _rate(f"clientSelectors: [{{{selector}}}]", refusal)


def _target(ref: str, refusal: str = "") -> Sample:
    return Sample("RateLimitPolicy", f"{{targetRefs: [{{{ref}}}], rules: [{{{LIMIT}}}]}}", refusal)


def _fault(rule: str, refusal: str = "", more: str = "") -> Sample:
    return Sample("FaultPolicy", f"{{{SERVICE}, rules: [{{{rule}}}], {more}}}", refusal)


def _struck(selector: str, refusal: str = "") -> Sample:
    return _fault(f"{ABORT}, clientSelectors: [{{{selector}}}]", refusal)


def _cron(expression: str, refusal: str = "", duration: str = "1h") -> Sample:
    return _fault(ABORT, refusal, f"schedule: {{cron: {{expression: '{expression}', duration: {duration}}}}}")


_ROUTE = "group: gateway.networking.k8s.io, kind: HTTPRoute, name: app"
_GATEWAY = "group: gateway.networking.k8s.io, kind: Gateway, name: w"
_WRONG_GROUP = (
    'group and kind do not fit together; set group to "" for a Service, to networking.istio.io for a ServiceEntry, and '
    "to gateway.networking.k8s.io for an HTTPRoute, GRPCRoute or Gateway"
)
_NO_LISTENER = "a waypoint's listener is not a valid target; remove sectionName, or target a Service and its port"
_NO_VALUE = "there is no value to compare with; add value, or set type to Distinct"
_VALUE_TOO_MANY = "value cannot be combined with type Distinct; remove value, or set another type"
_INVERTED = "invert cannot be combined with type Distinct; remove invert, or set another type"
_NO_EXPRESSION = "value is not a valid RE2 expression; see https://github.com/google/re2/wiki/Syntax"
_NO_PATH = "value is not a path; it must begin with / and contain no spaces, ? or #"
_NO_RANGE = (
    "value is not a range such as 10.0.0.0/8, whose bits after the prefix are all zero; correct it, or give one address"
)
_NO_CLIENT = "clientIdentity names no client; set namespaces, serviceAccounts or principals"
_NO_CLIENT_DISTINCT = f"{_NO_CLIENT}, or set type to Distinct to count each client separately"
_SAME_NAMES = "two rules have the same name; rename one"
_SCOPE = "scope Global and the field global require each other; add the missing one, or remove the other"
_BURST = "burst has no effect in scope Global, whose service counts in fixed windows; remove burst from all rules"
_NO_ADDRESS = "address is not a host and a port; correct it to an address such as ratelimit.example.com:8081"
_EITHER_SERVICE = "set either service or address, and not both"
_TIMEOUT = "timeout must be from 1ms to 5s, because every request may wait that long"
_NO_EFFECT = "the rule has no effect; add delay or abort"
_EITHER_STATUS = (
    "set either httpStatus or grpcStatus, and not both; the waypoint translates it for clients of the other protocol"
)
_NO_DELAY = "fixedDelay must be more than 0; set a longer time, or remove delay"
_UNTIL = "until must be after from; correct one of them"
_FIVE_FIELDS = (
    "expression must have five fields, such as 0 9 * * 1-5; they are minute, hour, day of month, month and day of week"
)
_MINUTE = "the minute of expression is not valid; give *, a number from 0 to 59, 0-29, 0,30 or */5"
_HOUR = "the hour of expression is not valid; give *, a number from 0 to 23, 9-17, 9,17 or */2"
_DAY = "the day of month of expression is not valid; give *, a number from 1 to 31, 1-7, 1,15, or L for the last day"
_MONTH = "the month of expression is not valid; give *, a number from 1 to 12, a name such as JAN, 1-3 or 1,7"
_WEEKDAY = (
    "the day of week of expression is not valid; give *, a number from 0 (Sunday) to 7, a name such as MON, 1-5 or 6,7"
)
_LASTS = "duration must be more than 0 and at most 24h; set it between them"
_WINDOW = "window must be from 1s to 1h; set it between them"
_PATTERN = "should match"
_ENUM = "Unsupported value"
_REQUIRED = "Required value"
_FEW = "should have at least 1 items"
_LOW, _HIGH = "should be greater than or equal to", "should be less than or equal to"
_MANY, _LONG = "Too many", "Too long"

SAMPLES = (
    _rate("name: a"),
    Sample("RateLimitPolicy", "{}", _REQUIRED),
    Sample("RateLimitPolicy", f"{{{SERVICE}, rules: []}}", _FEW),
    Sample("RateLimitPolicy", f"{{targetRefs: [], rules: [{{{LIMIT}}}]}}", _FEW),
    Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{', '.join([f'{{{LIMIT}}}'] * 64)}]}}"),
    Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{', '.join([f'{{{LIMIT}}}'] * 65)}]}}", _MANY),
    _target(_ROUTE),
    _target(f"{_ROUTE}, sectionName: rule-1"),
    _target(f"{_ROUTE}, sectionName: Rule 1", _PATTERN),
    _target(f"group: '', kind: Service, name: {'a' * 253}"),
    _target(f"group: '', kind: Service, name: {'a' * 254}", _LONG),
    _target("group: '', kind: HTTPRoute, name: app", _WRONG_GROUP),
    _target("group: apps, kind: Service, name: app", _WRONG_GROUP),
    _target("group: Apps, kind: Service, name: app", _PATTERN),
    _target("kind: Service, name: app", _REQUIRED),
    _target("group: networking.istio.io, kind: ServiceEntry, name: app"),
    _target("group: '', kind: ServiceEntry, name: app", _WRONG_GROUP),
    _target("group: gateway.networking.k8s.io, kind: GRPCRoute, name: app"),
    _target(_GATEWAY),
    _target(f"{_GATEWAY}, sectionName: mesh", _NO_LISTENER),
    _target("group: apps, kind: Deployment, name: app", _ENUM),
    _selecting("headers: [{name: a, value: b, invert: true}]"),
    _selecting("headers: [{name: a}]", _NO_VALUE),
    _selecting("headers: [{name: a, value: ''}]", "at least 1 chars long"),
    _selecting("headers: [{name: a b, value: b}]", _PATTERN),
    _selecting("headers: [{name: a, type: Distinct}]"),
    _selecting("headers: [{name: a, type: Distinct, value: b}]", _VALUE_TOO_MANY),
    _selecting("headers: [{name: a, type: Distinct, invert: true}]", _INVERTED),
    _selecting("headers: [{name: a, type: Distinct, invert: false}]"),
    _selecting("headers: [{name: a, type: Prefix, value: b}]", _ENUM),
    _selecting("headers: [{name: a, type: RegularExpression, value: '(?P<x>a|b)+[^c]{2,3}'}]"),
    _selecting("headers: [{name: a, type: RegularExpression, value: '(?!a)b'}]", _NO_EXPRESSION),
    _selecting("methods: [GET, POST]"),
    _selecting("methods: [get]", _ENUM),
    _selecting("path: {type: PathPrefix, value: /a}"),
    _selecting("path: {value: /a%20b}"),
    _selecting("path: {value: '/a?b'}", _NO_PATH),
    _selecting("path: {type: Exact, value: a}", _NO_PATH),
    _selecting("path: {type: RegularExpression, value: 'a.*'}"),
    _selecting("path: {type: RegularExpression, value: '('}", _NO_EXPRESSION),
    _selecting("path: {type: Distinct}"),
    _selecting("path: {type: Distinct, value: /a}", _VALUE_TOO_MANY),
    _selecting("path: {}", _NO_VALUE),
    _selecting("sourceCIDR: {value: 10.0.0.0/8, type: Distinct}"),
    _selecting("sourceCIDR: {value: 10.1.2.3}"),
    _selecting("sourceCIDR: {value: 'FD00::/8'}"),
    _selecting("sourceCIDR: {value: '::1'}"),
    _selecting("sourceCIDR: {type: Distinct}", _REQUIRED),
    _selecting("sourceCIDR: {value: 10.0.0.1/8}", _NO_RANGE),
    _selecting("sourceCIDR: {value: 10.0.0.0/33}", _NO_RANGE),
    _selecting("sourceCIDR: {value: 10.0.0}", _NO_RANGE),
    _selecting("sourceCIDR: {value: 010.0.0.0/8}", _NO_RANGE),
    _selecting("sourceCIDR: {value: '::ffff:10.0.0.0/104'}", _NO_RANGE),
    _selecting("sourceCIDR: {value: 10.0.0.0/255.0.0.0}", _PATTERN),
    _selecting("sourceCIDR: {value: 'fe80::1%eth0'}", _PATTERN),
    _selecting("queryParams: [{name: a, type: RegularExpression, value: b}]"),
    _selecting("queryParams: [{name: a, type: RegularExpression, value: '[b'}]", _NO_EXPRESSION),
    _selecting("queryParams: [{name: a, type: Distinct, value: b}]", _VALUE_TOO_MANY),
    _selecting("queryParams: [{name: a}]", _NO_VALUE),
    _selecting("clientIdentity: {type: Distinct}"),
    _selecting("clientIdentity: {namespaces: [a]}"),
    _selecting("clientIdentity: {type: Distinct, serviceAccounts: [a/b]}"),
    _selecting("clientIdentity: {principals: [cluster.local/ns/a/sa/b]}"),
    _selecting("clientIdentity: {}", _NO_CLIENT_DISTINCT),
    _selecting("clientIdentity: {namespaces: []}", _NO_CLIENT_DISTINCT),
    _selecting("clientIdentity: {serviceAccounts: [b]}", _PATTERN),
    _selecting("clientIdentity: {principals: [spiffe://cluster.local/ns/a/sa/b]}", _PATTERN),
    _limit("requests: 0, unit: Second", _LOW),
    _limit("requests: 1000000001, unit: Second", _HIGH),
    _limit("requests: 1, unit: Week", _ENUM),
    _limit("requests: 1", _REQUIRED),
    _limit("requests: 1.5, unit: Day", "must be of type integer"),
    _limit("requests: 1, unit: Day, burst: 3"),
    _limit("requests: 1, unit: Day, burst: 3", _BURST, "scope: Global, global: {domain: a, address: 'a:1'}"),
    _rate("shadowMode: true", "", "scope: DividedByReplicas, xRateLimitHeaders: DraftVersion03"),
    _rate("shadowMode: true", _SCOPE, "scope: Global"),
    _rate("shadowMode: true", _SCOPE, "global: {domain: a, address: 'a:1'}"),
    _global("domain: a, address: '[::1]:1'"),
    _global("domain: a, address: a", _NO_ADDRESS),
    _global("domain: a, address: 'a:65535'"),
    _global("domain: a, address: 'a:65536'", _NO_ADDRESS),
    _global("domain: a, address: 'a:0'", _NO_ADDRESS),
    _global("domain: a", _EITHER_SERVICE),
    _global("domain: a, address: 'a:1', service: {name: b, port: 1}", _EITHER_SERVICE),
    _global("domain: a, service: {name: b, port: 1}"),
    _global("domain: a, service: {name: b, port: 0}", _LOW),
    _global("domain: a, service: {name: b}", _REQUIRED),
    _global("domain: a, address: 'a:1', timeout: soon", _PATTERN),
    _global("domain: a, address: 'a:1', timeout: 4s1000ms"),
    _global("domain: a, address: 'a:1', timeout: 5s1ms", _TIMEOUT),
    _global("domain: a, address: 'a:1', timeout: 0s", _TIMEOUT),
    Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{{{LIMIT}, name: a}}, {{{LIMIT}, name: b}}, {{{LIMIT}}}]}}"),
    Sample("RateLimitPolicy", f"{{{SERVICE}, rules: [{{{LIMIT}, name: a}}, {{{LIMIT}, name: a}}]}}", _SAME_NAMES),
    _fault(ABORT),
    _fault("delay: {fixedDelay: 7s, percentage: 0.5}, abort: {grpcStatus: INTERNAL, percentage: 1}"),
    _fault("name: nothing", _NO_EFFECT),
    Sample("FaultPolicy", f"{{{SERVICE}, rules: [{{{ABORT}, name: a}}, {{{ABORT}, name: a}}]}}", _SAME_NAMES),
    Sample("FaultPolicy", f"{{{SERVICE}, rules: [{', '.join([f'{{{ABORT}}}'] * 17)}]}}", _MANY),
    Sample(
        "FaultPolicy",
        f"{{targetRefs: [{{group: '', kind: HTTPRoute, name: app}}], rules: [{{{ABORT}}}]}}",
        _WRONG_GROUP,
    ),
    Sample("FaultPolicy", f"{{targetRefs: [{{{_GATEWAY}, sectionName: mesh}}], rules: [{{{ABORT}}}]}}", _NO_LISTENER),
    _fault("abort: {percentage: 10}", _EITHER_STATUS),
    _fault("abort: {httpStatus: 500}", _REQUIRED),
    _fault("abort: {httpStatus: 500, grpcStatus: INTERNAL, percentage: 10}", _EITHER_STATUS),
    _fault("abort: {grpcStatus: OK, percentage: 10}", _ENUM),
    _fault("abort: {httpStatus: 600, percentage: 10}", _HIGH),
    _fault("delay: {fixedDelay: 7s, percentage: 101}", _HIGH),
    _fault("delay: {fixedDelay: 7, percentage: 1}", "must be of type string"),
    _fault("delay: {fixedDelay: 7d, percentage: 1}", _PATTERN),
    _fault("delay: {fixedDelay: 0s, percentage: 1}", _NO_DELAY),
    _fault("delay: {fixedDelay: 7s}", _REQUIRED),
    _struck("path: {type: Distinct}", _ENUM),
    _struck("clientIdentity: {type: Distinct}", _ENUM),
    _struck("clientIdentity: {principals: []}", _NO_CLIENT),
    _struck("headers: [{name: a}]", _REQUIRED),
    _struck("headers: [{name: a, value: b}]"),
    _struck("headers: [{name: a, value: '\\', type: RegularExpression}]", _NO_EXPRESSION),
    _struck("queryParams: [{name: a, value: '*', type: RegularExpression}]", _NO_EXPRESSION),
    _struck("path: {value: '(', type: RegularExpression}", _NO_EXPRESSION),
    _struck("path: {value: '/ '}", _NO_PATH),
    _struck("sourceCIDR: {value: 10.0.0.0/08}", _PATTERN),
    _struck("sourceCIDR: {value: 'fd00::1/8'}", _NO_RANGE),
    _fault(ABORT, "", "schedule: {from: '2026-01-01T00:00:00Z', until: '2026-01-01T02:00:00+01:00'}"),
    _fault(ABORT, _UNTIL, "schedule: {from: '2026-01-01T00:00:00Z', until: '2026-01-01T01:00:00+01:00'}"),
    _fault(ABORT, "must be of type date-time", "schedule: {from: tomorrow}"),
    _fault(ABORT, "must be of type date-time", "schedule: {from: '2026-01-01T00:00:00'}"),
    _fault(ABORT, _REQUIRED, "schedule: {cron: {expression: '0 9 * * *'}}"),
    _cron("0 9 * * 1-5"),
    _cron("*/5  0-7,18-23/2 1,15,L jan-MAR sun,2#1,5L"),
    _cron("every day", _FIVE_FIELDS),
    _cron("60 9 * * *", _MINUTE),
    _cron("0 24 * * *", _HOUR),
    _cron("0 9 0 * *", _DAY),
    _cron("0 9 * 13 *", _MONTH),
    _cron("0 9 * * 8", _WEEKDAY),
    _cron("0 9 * * MON#6", _WEEKDAY),
    _cron("0 9 * * *", _LASTS, "24h1ms"),
    _cron("0 9 * * *", _LASTS, "0s"),
    _fault(ABORT, "", "stopWhen: {errorPercentage: 5}"),
    _fault(ABORT, "", "stopWhen: {errorPercentage: 5, window: 1h}"),
    _fault(ABORT, _WINDOW, "stopWhen: {errorPercentage: 5, window: 999ms}"),
    _fault(ABORT, _WINDOW, "stopWhen: {errorPercentage: 5, window: 1h1ms}"),
    _fault(ABORT, _LOW, "stopWhen: {errorPercentage: 5, minRequests: 0}"),
    _fault(ABORT, _REQUIRED, "stopWhen: {}"),
)

ONLY_WE_REFUSE = (
    _selecting(f"path: {{type: RegularExpression, value: '{'.{1000}' * 40}'}}"),
    _cron("30-10 9 * * *"),
    _cron("0 9 30 2 *"),
)
"""Refused by our decoder, accepted by the API server."""
