"""What becomes of a request: the one place that says so, for the data path and for everybody who asks why.

Pure: the same destination, peer, head and rolls give the same decision. The exchange carries it out; `waypoint explain`
and `waypoint replay` only ask. `decide` leaves the head as it is. `edit_request` makes of it what the endpoint will
see, after a rate limit service and authorizers have added to it.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from policies.access import Access
from policies.attributes import ClusterName, Headers, Peer, RequestHead
from policies.authorization import Authorization, Verdict
from policies.chance import Chance, Roll
from policies.claims import Claims
from policies.cors import preflight_method
from policies.external_auth import Allowed, Question
from policies.fault import Fault
from policies.fault_plan import FaultPlan
from policies.filters import NO_FILTERS, Filters
from policies.header_format import Situation
from policies.mirror import Mirror
from policies.overrides import is_own_request, override
from policies.rate_limit import Measured, Quota, RateLimits
from policies.rewrite import HeaderEdit, Redirect
from policies.route import Rule, WeightedBackend
from policies.session import Token, cluster_mark
from waypoint.config.snapshot import Destination
from waypoint.errors import (
    BackendNotFound,
    Denied,
    ExchangeError,
    FaultInjected,
    NoBackendWeight,
    NotAuthorized,
    RateLimited,
    RouteNotFound,
)
from waypoint.http.trailers import without


class Live(Protocol):
    """What depends on the requests before this one."""

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer) -> Quota | None:
        """Take what a request costs out of its buckets."""

    def is_stopped(self, plan: FaultPlan) -> bool:
        """Whether a fault plan was given up."""


class _Untouched:
    """For whoever only asks: no bucket is measured, no plan given up."""

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer) -> Quota | None:
        return None

    def is_stopped(self, plan: FaultPlan) -> bool:
        return False


UNTOUCHED = _Untouched()


@dataclass(slots=True)
class Answer:
    """A response that needs no endpoint. `detail` goes to the access log."""

    status: int
    headers: Headers
    detail: str
    body: bytes = b""


@dataclass(slots=True)
class Decision:
    """Exactly one of `cluster`, `answer` and `error` is set. `verdict` is AuthorizationPolicies', if there are any.

    `origin` is the page's origin that CORS lets read the response; `mirrors` get a copy of the request; `tokens` say
    where the client's session is, if the rule keeps sessions; `quota` is what its limits left to the client; `fault`
    is what the request was exposed to. Of what is `measured` a rate limit service is asked first; it can still refuse
    the request, whatever was decided, and so can the authorizer that is asked the `question`. `allowed` are the answers
    of authorizers that let the request go on. The request waits for `delay_seconds` first, whatever becomes of it.
    `situation` is what formatted header values tell of; None when the rule has none.
    """

    rule: Rule | None = None
    backend: WeightedBackend | None = None
    cluster: ClusterName | None = None
    answer: Answer | None = None
    error: ExchangeError | None = None
    origin: bytes | None = None
    mirrors: tuple[Mirror, ...] = ()
    tokens: tuple[Token, ...] = ()
    quota: Quota | None = None
    measured: Measured = ()
    fault: Fault | None = None
    delay_seconds: float = 0.0
    verdict: Verdict | None = None
    question: Question | None = None
    allowed: tuple[Allowed, ...] = ()
    situation: Situation | None = None

    @property
    def status(self) -> int:
        """What is answered in an endpoint's place; 0 when an endpoint is asked."""
        answer = self.answer or self.error
        return answer.status if answer is not None else 0


UNDECIDED = Decision()


def decide(
    destination: Destination | None,
    peer: Peer,
    head: RequestHead,
    roll: Roll,
    now: float = 0.0,
    live: Live = UNTOUCHED,
    claims: Claims | None = None,
    granted: Container[str] | None = None,
) -> Decision:
    """`destination` is what the tunnel's authority names, None when it is not ours; `roll` gives its chances;
    `now` is wall-clock time, by which sessions expire; `live` knows what policies remember; `claims` are those of the
    request's verified token; `granted` names the providers that policies of action CUSTOM wanted asked, and that let
    the request go on; None for whoever only asks: then all of them do."""
    if destination is None:
        return Decision(error=RouteNotFound())
    verdict = None
    if destination.authorization is not None:
        access = Access(peer, destination.addresses, destination.port, head, claims)
        verdict, error = _authorize(destination.authorization, access, destination.authorizers or {}, granted)
        if error is not None:
            return Decision(error=error, verdict=verdict)
    if destination.hosts is not None and destination.hosts.name_of(head.authority) is None:
        return Decision(error=RouteNotFound(), verdict=verdict)
    rule: Rule | None = destination.routes_for(peer).find(head, peer)
    if rule is None:
        return Decision(error=RouteNotFound(), verdict=verdict)
    if head.overrides is not None and is_own_request(peer, head):
        rule = override(rule, head.overrides)
    decision = Decision(rule, verdict=verdict)
    if rule.filters.is_formatted:
        decision.situation = _situation(destination, peer, head)
    if rule.limits is not None and _is_over(decision, rule.limits, head, peer, live):
        decision.error = RateLimited(is_resource_exhausted=rule.limits.is_resource_exhausted)
        return decision
    filters = rule.filters
    if filters.authorizer is not None and not _is_answered_by_cors(filters, head):
        decision.question = filters.authorizer.question(head)
    fault = decision.fault = rule.fault if rule.fault_plan is None else _planned(rule, head, peer, now, live)
    if fault is not None:
        decision.delay_seconds, abort = fault.strike(roll)
        if abort is not None:
            decision.error = FaultInjected(abort)
            return decision
    if filters.cors is not None or filters.redirect is not None or filters.direct is not None:
        decision.answer = _answer(decision, filters, head, destination.port)
        if decision.answer is not None:
            return decision
    if rule.session is not None:
        decision.tokens = rule.session.find(head, now)
    backend = _pick(decision, rule, roll)
    redirect = decision.backend.filters.redirect if decision.backend is not None else None
    if redirect is not None:
        decision.cluster, decision.error = None, None
        decision.answer = _redirected(redirect, head, destination.port)
    elif backend is not None:
        if backend.filters.is_formatted and decision.situation is None:
            decision.situation = _situation(destination, peer, head)
        mirrors = filters.mirrors + backend.filters.mirrors
        if mirrors:
            decision.mirrors = tuple(mirror for mirror in mirrors if mirror.takes(roll(Chance.MIRROR)))
    return decision


def edit_request(decision: Decision, head: RequestHead) -> None:
    """Make of the head what the endpoint that was decided on will see. Formatted values tell of the head as it is
    before, with what authorizers have added."""
    if decision.situation is not None:
        decision.situation = replace(decision.situation, head=_copy(head))
    rule, backend = decision.rule, decision.backend
    if rule is not None and rule.filters is not NO_FILTERS:
        _edit(head, rule.filters, decision.situation)
    if backend is not None and backend.filters is not NO_FILTERS:
        _edit(head, backend.filters, decision.situation)


def _edit(head: RequestHead, filters: Filters, situation: Situation | None) -> None:
    edit = filters.request_edit
    if edit is not None:
        _filled(edit, situation).apply_to(head)
    if filters.rewrite is not None:
        filters.rewrite.apply_to(head)


def _situation(destination: Destination, peer: Peer, head: RequestHead) -> Situation:
    return Situation(peer, next(iter(destination.addresses), ""), destination.port, _copy(head))


def _copy(head: RequestHead) -> RequestHead:
    return replace(head, headers=list(head.headers))


def _filled(edit: HeaderEdit, situation: Situation | None) -> HeaderEdit:
    return edit.filled(situation) if situation is not None and edit.formatted else edit


def _is_answered_by_cors(filters: Filters, head: RequestHead) -> bool:
    is_allowed = filters.cors is not None and filters.cors.origin_of(head) is not None
    return is_allowed and preflight_method(head) is not None


def _is_over(decision: Decision, limits: RateLimits, head: RequestHead, peer: Peer, live: Live) -> bool:
    """What a service counts is asked of it later, before anything else is done; the head is not edited yet."""
    if limits.service is not None:
        decision.measured = limits.measure(head, peer)
        return False
    quota = decision.quota = live.take(limits, head, peer)
    return quota is not None and bool(quota.over)


def _planned(rule: Rule, head: RequestHead, peer: Peer, now: float, live: Live) -> Fault | None:
    """The plan's fault, if this request has one; else the rule's own."""
    plan = rule.fault_plan
    assert plan is not None
    return (None if live.is_stopped(plan) else plan.find(head, peer, now)) or rule.fault


def complete(headers: Headers, fields: Mapping[bytes, bytes], new_request_id: Callable[[], bytes]) -> bytes:
    """Add what every application may rely on, and rules may ask for, before anything is decided; gives the request's
    id. `fields` are the headers by name."""
    request_id = fields.get(b"x-request-id")
    if request_id is None:
        request_id = new_request_id()
        headers.append((b"x-request-id", request_id))
    if b"x-forwarded-proto" not in fields:
        headers.append((b"x-forwarded-proto", b"http"))
    return request_id


def decide_opaque(destination: Destination | None, peer: Peer, server_name: str, roll: Roll) -> Decision:
    """What becomes of a connection that is no HTTP; `server_name` is empty unless a TLS client named one."""
    if destination is None:
        return Decision(error=RouteNotFound())
    verdict, error = _authorize_bytes(destination, peer, server_name)
    if error is not None:
        return Decision(error=error, verdict=verdict)
    if destination.hosts is not None and server_name and destination.hosts.name_of(server_name.encode()) is None:
        return Decision(error=RouteNotFound(), verdict=verdict)
    rule = destination.opaque_for(peer).find(server_name)
    if rule is None:
        return Decision(error=RouteNotFound(), verdict=verdict)
    decision = Decision(rule, verdict=verdict)
    _pick(decision, rule, roll)
    return decision


def denial_of_bytes(destination: Destination | None, peer: Peer, server_name: str) -> ExchangeError | None:
    """Why bytes that pass already may do so no longer."""
    return _authorize_bytes(destination, peer, server_name)[1] if destination is not None else None


def denial_of_request(
    destination: Destination | None, peer: Peer, method: bytes, authority: bytes, target: bytes
) -> Denied | None:
    """Why a request that went on before may do so no longer."""
    if destination is None or destination.late_authorization is None:
        return None
    head = RequestHead(method, authority, target.partition(b"?")[0], b"", [])
    verdict = destination.late_authorization.judge(Access(peer, destination.addresses, destination.port, head))
    return None if verdict.is_allowed else Denied(verdict)


def first_question(
    destination: Destination, peer: Peer, head: RequestHead, granted: Container[str] = ()
) -> Question | None:
    """What a policy of action CUSTOM wants to have asked next, before anything else, tokens included; None when
    nothing, or when nobody knows one of the providers, so that it makes no difference what the others say."""
    if destination.authorization is None or destination.authorizers is None:
        return None
    access = Access(peer, destination.addresses, destination.port, head)
    providers = destination.authorization.custom_providers(access, granted)
    if not providers or not destination.authorizers.keys() >= set(providers):
        return None
    return destination.authorizers[providers[0]].question(head)


def _authorize(
    authorization: Authorization, access: Access, known: Container[str], granted: Container[str] | None
) -> tuple[Verdict, ExchangeError | None]:
    """Before anything else is looked at; nobody learns from an answer which routes there are. A provider that could not
    be asked denies: it is unknown, or a rule looks at tokens, which come later, or at bytes that are no HTTP."""
    verdict = authorization.judge(access)
    for provider in authorization.custom_providers(access, granted or ()):
        if provider not in known or granted is not None:
            return verdict, NotAuthorized(f"{provider!r} is to be asked, and can't be")
    return verdict, None if verdict.is_allowed else Denied(verdict)


def _authorize_bytes(
    destination: Destination, peer: Peer, server_name: str
) -> tuple[Verdict | None, ExchangeError | None]:
    if destination.opaque_authorization is None:
        return None, None
    access = Access(peer, destination.addresses, destination.port, server_name=server_name)
    return _authorize(destination.opaque_authorization, access, {}, ())


def edit_response(decision: Decision, headers: Headers) -> Headers:
    """A response's headers as the client gets them, whoever made it."""
    rule, backend = decision.rule, decision.backend
    if backend is not None and backend.filters.response_edit is not None:
        headers = _filled(backend.filters.response_edit, decision.situation).apply(headers)
    if rule is not None and rule.filters.response_edit is not None:
        headers = _filled(rule.filters.response_edit, decision.situation).apply(headers)
    return _mark(decision, headers)


def _mark(decision: Decision, headers: Headers) -> Headers:
    """What a response says of the decision: what the client has left, what authorizers add, and that the page which
    asked may read it."""
    if decision.quota is not None:
        decision.quota.mark(headers)
    for it in decision.allowed:
        if it.response_edit is not None:
            headers = it.response_edit.apply(headers)
    if decision.origin is None or decision.rule is None or decision.rule.filters.cors is None:
        return headers
    return decision.rule.filters.cors.mark(headers, decision.origin)


def request_trailers(
    decision: Decision, destination: Destination | None, head: RequestHead, trailers: Headers
) -> Headers:
    """Those that add nothing to what the head says, nor bring what was judged or taken out of it. `head` is as it went
    to the endpoint."""
    names = {name for name, _ in head.headers}
    if destination is not None:
        names |= destination.judged_names
    for it in _edited_by(decision):
        if it.request_edit is not None:
            names |= it.request_edit.replaced_names
    return without(trailers, names)


def response_trailers(decision: Decision, trailers: Headers) -> Headers:
    """Those that don't bring back what was taken out of the head."""
    names: set[bytes] = set()
    for it in _edited_by(decision):
        if it.response_edit is not None:
            names |= it.response_edit.replaced_names
    return without(trailers, names) if names else trailers


def _edited_by(decision: Decision) -> Iterator[Allowed | Filters]:
    """Whatever edits the request and its response."""
    yield from decision.allowed
    if decision.rule is not None:
        yield decision.rule.filters
    if decision.backend is not None:
        yield decision.backend.filters


def _pick(decision: Decision, rule: Rule, roll: Roll) -> WeightedBackend | None:
    """The backend, if requests can go there."""
    backend = _kept(rule, decision.tokens)
    if backend is None:
        backend = rule.pick(roll(Chance.BACKEND))
    decision.backend = backend
    if backend is None:
        decision.error = NoBackendWeight()
    elif backend.cluster is None:
        decision.error = BackendNotFound(backend.missing_status)
    else:
        decision.cluster = backend.cluster
        return backend
    return None


def _kept(rule: Rule, tokens: tuple[Token, ...]) -> WeightedBackend | None:
    """The backend that a session is with, even when its weight is 0 by now."""
    for token in tokens:
        for backend in rule.backends:
            if backend.cluster is not None and cluster_mark(rule.scope, backend.cluster) == token.cluster:
                return backend
    return None


def _answer(decision: Decision, filters: Filters, head: RequestHead, port: int) -> Answer | None:
    cors, redirect = filters.cors, filters.redirect
    origin = cors.origin_of(head) if cors is not None else None
    if cors is not None and origin is not None:
        preflight = cors.preflight(head, origin)
        if preflight is not None:
            return Answer(200, preflight, "cors_response")
        decision.origin = origin
    elif cors is not None and not cors.forwards_unmatched and preflight_method(head) is not None:
        return Answer(200, [], "cors_response")
    if redirect is not None:
        return _redirected(redirect, head, port)
    direct = filters.direct
    if direct is None:
        return None
    headers = [(b"content-type", b"text/plain")] if direct.body else []
    return Answer(direct.status, headers, "direct_response", direct.body)


def _redirected(redirect: Redirect, head: RequestHead, port: int) -> Answer:
    return Answer(redirect.status, [(b"location", redirect.location(head, port))], "direct_response")
