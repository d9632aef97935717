"""AuthorizationPolicies: the table of cases, compiled and decided, without a connection."""

import pytest

from policies.attributes import Headers, Identity, Peer, RequestHead
from policies.claims import Claims
from tests.kit.mesh import manifests
from tests.kit.snapshots import compiled, documents_of
from tests.policies.authorization_cases import CASES, TCP_PORT, VIP, Ask, Case
from waypoint.admission.decide import Decision, decide, decide_opaque
from waypoint.config.snapshot import Destination
from waypoint.errors import BadRequest, Denied
from waypoint.http.events import Body
from waypoint.http.h1_request import RequestReader
from waypoint.http.settings import HttpSettings


class _Taken:
    """Takes the head that a client's bytes make."""

    head: RequestHead | None = None

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self.head = head

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...


def peer_of(ask: Ask) -> Peer:
    identity = Identity("cluster.local", ask.namespace, ask.account) if ask.account else None
    return Peer(identity, "127.0.0.1", 1)


def head_of(ask: Ask) -> RequestHead:
    taken = _Taken()
    RequestReader(taken, HttpSettings()).feed(ask.raw)
    assert taken.head is not None
    return taken.head


def decided(destination: Destination, ask: Ask) -> Decision:
    if ask.port == TCP_PORT:
        return decide_opaque(destination, peer_of(ask), "", lambda chance: 0.0)
    claims = Claims(ask.claims) if ask.claims is not None else None
    return decide(destination, peer_of(ask), head_of(ask), lambda chance: 0.0, claims=claims)


def verdict_of(case: Case) -> str:
    text = manifests(waypoint="127.149.0.2", vip=VIP, pods={"app": "127.149.0.3"}, more=case.documents)
    destination = compiled(documents_of(mesh=text)).destinations[VIP, case.ask.port]
    try:
        error = decided(destination, case.ask).error
    except BadRequest as refusal:
        return str(refusal.status)
    return error.detail if error is not None else ""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_is_denied_by_whom_the_table_says(case: Case) -> None:
    verdict = verdict_of(case)

    assert verdict == (case.detail if case.verdict and not case.verdict.isdecimal() else case.verdict)


def test_there_are_many_cases_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 250


def test_a_denial_is_the_403_of_envoy() -> None:
    case = next(case for case in CASES if case.verdict == "none")
    text = manifests(waypoint="127.149.0.2", vip=VIP, pods={"app": "127.149.0.3"}, more=case.documents)

    error = decided(compiled(documents_of(mesh=text)).destinations[VIP, 9080], case.ask).error

    assert isinstance(error, Denied)
    assert (error.status, error.body, error.flag) == (403, b"RBAC: access denied", None)
