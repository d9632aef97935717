"""No text of a route object can change the structure of a message on the wire.

Hostile text is put into every text field of every route kind, one after the other. The requests to endpoints and the
responses to clients that result must contain it as a value only.
"""

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from msgspec import inspect

from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.resources import Decoder, Resource, Resources
from l4.discovery.index import Index
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from policies.attributes import Header, Identity, Peer, RequestHead, ResponseHead
from policies.authorizer import Authorizer
from policies.session import SessionPersistence
from tests.conformance.test_http_route import http_route
from tests.conformance.test_virtual_service import virtual_service
from tests.golden.test_golden import HERE
from tests.kit.aio import run
from tests.kit.echo import Answer, echo_mesh
from tests.kit.snapshots import GATEWAY, documents_of
from waypoint.admission.decide import decide, edit_request, edit_response
from waypoint.config.compile import Compilation
from waypoint.config.compile_options import CompileOptions
from waypoint.config.gateway_api.grpc_route import GRPCRoute
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.istio.virtual_service import VirtualService
from waypoint.config.kinds import KINDS
from waypoint.config.snapshot import Snapshot

MESH = (HERE / "mesh.yaml").read_text()
WHERE = ("10.96.0.1", 9080)
HOSTILE = (
    "x\r\nx-injected: 1",
    "/x HTTP/1.1\r\nX-Injected: 1\r\nX-Rest: ",
    "\r",
    "\0",
    " ",
    "/ ",
    "noslash",
    "/a b",
    "/a?b=c d",
    "/a#b",
    "é\u2028",
    "\\9",
    "user@host",
    "content-length",
    "Transfer-Encoding",
    "host",
    ":path",
    "",
)

EVERYTHING = Path(__file__).parent / "everything"


def _everything(name: str) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load((EVERYTHING / name).read_text()))


def path(value: str, kind: str = "PathPrefix") -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}}


WITH_EVERYTHING = {
    HTTPRoute: _everything("http_route.yaml"),
    GRPCRoute: _everything("grpc_route.yaml"),
    VirtualService: _everything("virtual_service.yaml"),
}
ASKED = [*(f"/{name}" for name in ("one", "two", "three", "four", "five", "six", "seven")), "/one/Get", "/two/Get", "/"]


MAPPINGS = frozenset({"set", "add", "headers", "withoutHeaders", "queryParams", "sourceLabels"})
"""Fields of a VirtualService whose keys are texts, too."""
Step = str | int
Leaf = tuple[tuple[Step, ...], bool]


def leaves(value: Any, above: tuple[Step, ...] = ()) -> Iterator[Leaf]:
    """Where there is a text; True: it is the key of a mapping."""
    if isinstance(value, str):
        yield above, False
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*above, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if above and above[-1] in MAPPINGS:
                yield (*above, key), True
            yield from leaves(item, (*above, key))


def replaced(document: dict[str, Any], leaf: Leaf, text: str) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    (*steps, last), is_key = leaf
    place: Any = changed["spec"]
    for step in steps:
        place = place[step]
    if is_key:
        place[text] = place.pop(last)
    else:
        place[last] = text
    return changed


def text_fields(kind: inspect.Type) -> Iterator[tuple[str, str]]:
    """Struct and field of all texts below a kind."""
    match kind:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner) | inspect.DictType(value_type=inner):
            yield from text_fields(inner)
        case inspect.UnionType(types=types):
            for each in types:
                yield from text_fields(each)
        case inspect.StructType(fields=fields, cls=struct):
            for field in fields:
                if _is_text(field.type):
                    yield struct.__name__, field.encode_name
                yield from text_fields(field.type)


def texts_in(kind: inspect.Type, value: Any) -> Iterator[tuple[str, str]]:
    """Struct and field of the texts that there are in a value."""
    match kind:
        case inspect.Metadata(type=inner):
            yield from texts_in(inner, value)
        case inspect.UnionType(types=types):
            for each in types:
                yield from texts_in(each, value)
        case inspect.VarTupleType(item_type=inner) if isinstance(value, list):
            for item in value:
                yield from texts_in(inner, item)
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            for item in value.values():
                yield from texts_in(inner, item)
        case inspect.StructType(fields=fields, cls=struct) if isinstance(value, dict):
            for field in fields:
                if field.encode_name in value:
                    if _is_text(field.type):
                        yield struct.__name__, field.encode_name
                    yield from texts_in(field.type, value[field.encode_name])


def _is_text(kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner) | inspect.DictType(value_type=inner):
            return _is_text(inner)
        case inspect.UnionType(types=types):
            return any(map(_is_text, types))
    return isinstance(kind, inspect.StrType)


@pytest.mark.parametrize("kind", WITH_EVERYTHING)
def test_every_text_field_of_the_kind_is_tried(kind: Any) -> None:
    spec = next(field.type for field in inspect.type_info(kind).fields if field.encode_name == "spec")  # type: ignore[attr-defined]

    missing = set(text_fields(spec)) - set(texts_in(spec, WITH_EVERYTHING[kind]["spec"]))

    assert {it for it in missing if it[0] not in _TRIED_AS_HTTP} <= _REFUSED


_TRIED_AS_HTTP = {"RequestRedirect", "URLRewrite", "PathModifier", "CORS", "ExternalAuth", "HTTPAuth", "GRPCAuth"}
"""What GRPCRoute shares with HTTPRoute, and refuses."""
_REFUSED = {("Delay", "exponentialDelay"), ("Abort", "http2Error")}
"""Whatever they say."""


@pytest.mark.parametrize("kind", WITH_EVERYTHING)
def test_the_object_is_taken_as_it_is_without_hostile_text(kind: Any) -> None:
    snapshot = _snapshot(WITH_EVERYTHING[kind])

    assert not [it for it in snapshot.problems if it.code in {"PWP0001", "PWP0002", "PWP0108"}]
    assert any(_sent(snapshot, target) for target in ASKED)


@pytest.mark.parametrize(
    ("kind", "leaf"),
    [(kind, leaf) for kind, document in WITH_EVERYTHING.items() for leaf in leaves(document["spec"])],
    ids=lambda it: it.__name__ if isinstance(it, type) else ".".join(map(str, it[0])) + (" (key)" if it[1] else ""),
)
def test_hostile_text_reaches_no_wire(kind: Any, leaf: Leaf) -> None:
    for text in HOSTILE:
        snapshot = _snapshot(replaced(WITH_EVERYTHING[kind], leaf, text))
        for target in ASKED:
            for what, problem in _sent(snapshot, target):
                assert not problem, (text, target, what, problem)


def _snapshot(content: dict[str, Any]) -> Snapshot:
    resources, registry = _mesh()
    group = content["apiVersion"].partition("/")[0]
    key = ObjectKey(group, content["kind"], "default", "everything")
    decoded = Decoder(KINDS).decode([Document(key, content, FileOrigin("case.yaml", 1))])
    both = Resources([*resources, *(it for kind in WITH_EVERYTHING for it in decoded.resources.of(kind))])
    return Compilation(both, registry, CompileOptions(GATEWAY), decoded.problems).snapshot


@cache
def _mesh() -> tuple[list[Resource[Any]], Registry]:
    resources = Decoder(KINDS).decode(documents_of(mesh=MESH)).resources
    return [it for kind in set(KINDS.values()) for it in resources.of(kind)], Index(resources, Mesh()).registry


PEER = Peer(Identity("cluster.local", "a", "a"), "10.0.0.9", 1)
ORIGIN = (b"origin", b"https://a.example")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*").fullmatch
_HOST = re.compile(rb"[a-zA-Z0-9._~\-]+(:[0-9]+)?|\[[0-9a-f:.]+\](:[0-9]+)?").fullmatch
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~\-]+").fullmatch
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
_LOCATION = re.compile(rb"https?://[a-zA-Z0-9._~\-:\[\]]+/[\x21\x22\x24-\x7e]*").fullmatch
_FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"upgrade", b"trailer"}


def _sent(snapshot: Snapshot, target: str) -> Iterator[tuple[str, str]]:
    """What of a request, and of its response, is not what it should be."""
    destination = snapshot.destinations[WHERE]
    for method, headers in (
        (b"GET", [(b"x-a", b"b"), ORIGIN]),
        (b"OPTIONS", [ORIGIN, (b"access-control-request-method", b"GET")]),
        (b"b", []),
    ):
        for roll in (0.0, 0.99):
            head = RequestHead(method, b"reviews:9080", target.encode(), b"a=b", list(headers), has_query=True)
            decision = decide(destination, PEER, head, lambda chance, roll=roll: roll, now=1.0)  # type: ignore[misc]
            rule = decision.rule
            authorizer = rule.filters.get(Authorizer) if rule is not None else None
            question = authorizer.question(head) if authorizer is not None else None
            edit_request(decision, head)
            yield "target", "" if _TARGET(head.target) else repr(head.target)
            yield "authority", "" if _HOST(head.authority) else repr(head.authority)
            yield from _fields("request", head.headers)
            response = ResponseHead(200, [(b"x-own", b"1")])
            edit_response(decision, response)
            yield from _fields("response", response.headers)
            if question is not None:
                asked = (question.authorizer.path_prefix or b"") + question.head.target
                yield "question", "" if _TARGET(asked) else repr(asked)
                yield from _fields("question", question.head.headers)
            if decision.answer is not None:
                yield from _fields("answer", decision.answer.headers)
                for name, value in decision.answer.headers:
                    if name == b"location":
                        yield "location", "" if _LOCATION(value) else repr(value)
            session = rule.filters.get(SessionPersistence) if rule is not None else None
            if session is not None and (header := session.header(None, (b"a", b"b"), 1.0, is_secure=True)) is not None:
                yield from _fields("session", [header])


def _fields(where: str, headers: list[Header]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        is_good = _NAME(name) and _VALUE(value) and name not in _FRAMING and b"injected" not in name
        yield where, "" if is_good else repr((name, value))


TO_V1 = [{"destination": {"host": "echo-v1"}}]
EXAMPLES: dict[str, dict[str, Any]] = {
    "a rewritten path with a line end": {
        "rewrite": {"uri": "/x HTTP/1.1\r\nX-Injected: 1\r\nX-Rest: "},
        "route": TO_V1,
    },
    "a rewritten path of a blank": {"rewrite": {"uri": " "}, "route": TO_V1},
    "a rewritten path without a slash": {"rewrite": {"uri": "noslash"}, "route": TO_V1},
    "a substitution": {
        "rewrite": {"uriRegexRewrite": {"match": "/.*", "rewrite": "/x HTTP/1.1\r\nX-Injected: 1"}},
        "route": TO_V1,
    },
    "a group that the expression does not have": {
        "rewrite": {"uriRegexRewrite": {"match": "/.*", "rewrite": "/\\1"}},
        "route": TO_V1,
    },
    "an authority": {"rewrite": {"authority": "a\r\nX-Injected: 1"}, "route": TO_V1},
    "a header that is set": {"headers": {"request": {"set": {"x-a": "a\r\nX-Injected: 1"}}}, "route": TO_V1},
    "a header that is added": {"headers": {"request": {"add": {"x-a": "a\r\nX-Injected: 1"}}}, "route": TO_V1},
    "a response's header that is set": {
        "headers": {"response": {"set": {"x-a": "a\r\nX-Injected: 1"}}},
        "route": TO_V1,
    },
    "a response's header that is added": {
        "headers": {"response": {"add": {"x-a": "a\r\nX-Injected: 1"}}},
        "route": TO_V1,
    },
    "a length": {"headers": {"request": {"set": {"content-length": "5"}}}, "route": TO_V1},
    "an encoding": {"headers": {"request": {"set": {"transfer-encoding": "chunked"}}}, "route": TO_V1},
    "a connection": {"headers": {"request": {"add": {"connection": "close"}}}, "route": TO_V1},
    "a second host": {"headers": {"request": {"add": {"host": "other"}}}, "route": TO_V1},
    "a response's length": {"headers": {"response": {"set": {"content-length": "5"}}}, "route": TO_V1},
    "a redirect's path": {"redirect": {"uri": "/x\r\nX-Injected: 1"}},
    "a redirect's authority": {"redirect": {"authority": "a\r\nX-Injected: 1"}},
    "what scripts may read": {
        "corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}], "exposeHeaders": ["x\r\nX-Injected: 1"]},
        "route": TO_V1,
    },
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_such_a_rule_answers_500_and_its_neighbour_goes_on(case: str, tmp_path: Path) -> None:
    bad = {"match": [{"uri": {"prefix": "/bad"}}], **EXAMPLES[case]}

    async def scenario() -> tuple[Answer, Answer]:
        async with echo_mesh(tmp_path, virtual_service(bad, {"route": TO_V1})) as it:
            return await it.ask("/bad", headers="Origin: https://a.example\r\n"), await it.ask("/good")

    refused, good = run(scenario())

    assert (refused.status, refused.pod) == (500, "")
    assert "x-injected" not in refused.headers
    assert (good.status, good.pod) == (200, "echo-v1")


def test_a_value_that_is_not_accepted_refuses_its_rule_alone(tmp_path: Path) -> None:
    to_v1 = [{"name": "echo-v1", "port": 80}]
    route = http_route(
        {"matches": [path("/timeout")], "timeouts": {"request": "soon"}, "backendRefs": to_v1},
        {"matches": [path("/filter")], "filters": [{"type": "Unheard"}], "backendRefs": to_v1},
        {"matches": [path("/expression(", "RegularExpression")], "backendRefs": to_v1},
        {"matches": [path("/one("), path("/two")], "filters": [{"type": "CORS"}], "backendRefs": to_v1},
        {"matches": [path("/good")], "backendRefs": to_v1},
    )

    async def scenario() -> dict[str, int]:
        async with echo_mesh(tmp_path, route) as it:
            asked = ("/timeout", "/filter", "/two", "/expression", "/good")
            return {path: (await it.ask(path)).status for path in asked}

    assert run(scenario()) == {"/timeout": 500, "/filter": 500, "/two": 500, "/expression": 404, "/good": 200}
