"""Decide how a request is handled, for the data path, `explain` and `replay` alike.

Pure: the same destination, peer, head and rolls give the same decision, and deciding changes nothing, neither heads nor
buckets. The decision contains what remains to be done. The exchange does it; `waypoint explain` and `waypoint replay`
only read it. `edit_request` produces the head for the endpoint, after filters have added to it.
"""

from collections.abc import Container
from dataclasses import dataclass, replace

from policies.access import Access
from policies.attributes import ClusterName, Headers, Peer, RequestHead, ResponseHead
from policies.authorization import Rules, Verdict
from policies.balancing.endpoint import Endpoint
from policies.chance import Chance, Roll
from policies.claims import Claims
from policies.filters import NO_FILTERS, Filters
from policies.header_format import Situation
from policies.overrides import is_own_request, override
from policies.rewrite import HeaderEdit, Redirect
from policies.route import Rule, WeightedBackend
from waypoint.config.snapshot import Destination
from waypoint.errors import (
    BackendNotFound,
    Denied,
    ExchangeError,
    NoBackendWeight,
    NotAuthorized,
    RouteNotFound,
)
from waypoint.filters.filter import Answer, Filtering
from waypoint.filters.live import ASKING, LiveFilters
from waypoint.http.events import EMPTY, Body
from waypoint.http.trailers import without

_BACKEND = Chance.BACKEND  # its class looks up members by Python code before 3.12


@dataclass(slots=True)
class Decision:
    """Exactly one of `cluster`, `answer` and `error` is set.

    `verdict` is that of AuthorizationPolicies, if there are any. `situation` holds the inputs of formatted header
    values, None if the rule has none. `filtering` is the request's filter state, None if no filter applies.
    """

    rule: Rule | None = None
    backend: WeightedBackend | None = None
    cluster: ClusterName | None = None
    answer: Answer | None = None
    error: ExchangeError | None = None
    verdict: Verdict | None = None
    situation: Situation | None = None
    filtering: Filtering | None = None

    @property
    def status(self) -> int:
        """Status of the local response, or 0 if an endpoint is called."""
        answer = self.answer or self.error
        return answer.status if answer is not None else 0

    def end(self, ending: Answer | ExchangeError) -> None:
        """Answer instead of calling an endpoint."""
        self.cluster = None
        if isinstance(ending, Answer):
            self.answer, self.error = ending, None
        else:
            self.answer, self.error = None, ending


UNDECIDED = Decision()


def decide(
    destination: Destination | None,
    peer: Peer,
    head: RequestHead,
    roll: Roll,
    now: float = 0.0,
    filters: LiveFilters = ASKING,
    claims: Claims | None = None,
    granted: Container[str] | None = None,
    body: Body = EMPTY,
    filtering: Filtering | None = None,
    rules: Rules | None = None,
) -> Decision:
    """Decide how to handle a request.

    - `destination` is the one of the tunnel's authority, or None if it is not ours.
    - `roll` provides random numbers. `now` is wall-clock time, for session expiry.
    - `claims` are those of the request's verified token.
    - `granted` names the providers of CUSTOM policies that have allowed the request. With None, all are assumed to.
    - `filtering` is given if filters have processed the request before.
    - `rules` are those of the destination's AuthorizationPolicies that the connection leaves open. With None, all are
      evaluated.
    """
    if destination is None:
        return Decision(error=RouteNotFound(), filtering=filtering)
    verdict: Verdict | None = None
    if rules is None and destination.authorization is not None:
        rules = destination.authorization.rules
    if rules is not None:
        error: ExchangeError | None = None
        verdict = rules.verdict if not rules.custom else None
        if verdict is None:
            access = Access(peer, destination.addresses, destination.port, head, claims)
            verdict, error = _authorize(rules, access, destination.authorizers or {}, granted)
        elif not verdict.is_allowed:
            error = Denied(verdict)
        if error is not None:
            return Decision(error=error, verdict=verdict, filtering=filtering)
    if destination.hosts is not None and destination.hosts.name_of(head.authority) is None:
        return Decision(error=RouteNotFound(), verdict=verdict, filtering=filtering)
    rule: Rule | None = destination.routes_for(peer).find(head, peer)
    if rule is None:
        return Decision(error=RouteNotFound(), verdict=verdict, filtering=filtering)
    if head.overrides is not None and is_own_request(peer, head):
        rule = override(rule, head.overrides)
    decision = Decision(rule, verdict=verdict, filtering=filtering)
    its: Filters = rule.filters
    if its is not NO_FILTERS:
        if its.is_formatted:
            decision.situation = _situation(destination, peer, head)
        if its.policies:
            if filtering is None:
                decision.filtering = filtering = _filtering(filters, destination, peer, head, roll, now, body)
            filtering.rule = rule
            if _is_answered(decision, filtering, its.policies):
                return decision
        if its.redirect is not None or its.direct is not None:
            decision.answer = _answer(its, head, destination.port)
            return decision
    backend: WeightedBackend | None = filtering.backend if filtering is not None else None
    if backend is None:
        backend = rule.only if rule.only is not None else rule.pick(roll(_BACKEND))
    decision.backend = backend
    if backend is None:
        decision.error = NoBackendWeight()
        return decision
    its = backend.filters
    if its.redirect is not None:
        decision.answer = _redirected(its.redirect, head, destination.port)
    elif backend.cluster is None:
        decision.error = BackendNotFound(backend.missing_status)
    else:
        decision.cluster = backend.cluster
        if its is not NO_FILTERS:
            if its.is_formatted and decision.situation is None:
                decision.situation = _situation(destination, peer, head)
            if its.policies:
                if filtering is None:
                    decision.filtering = filtering = _filtering(filters, destination, peer, head, roll, now, body)
                filtering.rule, filtering.backend = rule, backend
                _is_answered(decision, filtering, its.policies)
    return decision


def _filtering(
    filters: LiveFilters, destination: Destination, peer: Peer, head: RequestHead, roll: Roll, now: float, body: Body
) -> Filtering:
    """Create the request's state for filters. `explain` also records the odds of random events."""
    odds: dict[str, float] | None = {} if filters is ASKING else None
    return Filtering(filters.by_type, destination, peer, head, roll, now, body, odds)


def _is_answered(decision: Decision, filtering: Filtering, policies: tuple[object, ...]) -> bool:
    """Let the filters decide. Returns whether one of them answers."""
    filtering.run(policies)
    if filtering.ending is None:
        return False
    decision.end(filtering.ending)
    filtering.ending = None
    return True


def edit_request(decision: Decision, head: RequestHead) -> None:
    """Edit the head for the selected endpoint.

    Formatted values use the head before edits, with what authorizers have added.
    """
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


def decide_opaque(destination: Destination | None, peer: Peer, server_name: str, roll: Roll) -> Decision:
    """Decide how to handle a non-HTTP connection. `server_name` is empty unless a TLS client sent SNI."""
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
    backend = rule.pick(roll(_BACKEND))
    if backend is None:
        return Decision(rule, error=NoBackendWeight(), verdict=verdict)
    if backend.cluster is None:
        return Decision(rule, backend, error=BackendNotFound(backend.missing_status), verdict=verdict)
    return Decision(rule, backend, backend.cluster, verdict=verdict)


def denial_of_bytes(destination: Destination | None, peer: Peer, server_name: str) -> ExchangeError | None:
    """Return why an active opaque connection is no longer allowed, or None."""
    return _authorize_bytes(destination, peer, server_name)[1] if destination is not None else None


def denial_of_request(
    destination: Destination | None, peer: Peer, method: bytes, authority: bytes, target: bytes
) -> Denied | None:
    """Return why an active request is no longer allowed, or None."""
    if destination is None or destination.late_authorization is None:
        return None
    head = RequestHead(method, authority, target.partition(b"?")[0], b"", [])
    verdict = destination.late_authorization.judge(Access(peer, destination.addresses, destination.port, head))
    return None if verdict.is_allowed else Denied(verdict)


def _authorize(
    rules: Rules, access: Access, known: Container[str], granted: Container[str] | None
) -> tuple[Verdict, ExchangeError | None]:
    """Evaluate AuthorizationPolicies, before anything else, so that a response never reveals which routes exist.

    A provider that cannot be asked denies: it is unknown, or its rule depends on tokens, which are checked later, or
    the connection is not HTTP.
    """
    verdict = rules.judge(access)
    for provider in rules.custom_providers(access, granted or ()):
        if provider not in known or granted is not None:
            return verdict, NotAuthorized(f"the authorizer {provider!r} cannot be asked")
    return verdict, None if verdict.is_allowed else Denied(verdict)


def _authorize_bytes(
    destination: Destination, peer: Peer, server_name: str
) -> tuple[Verdict | None, ExchangeError | None]:
    if destination.opaque_authorization is None:
        return None, None
    access = Access(peer, destination.addresses, destination.port, server_name=server_name)
    return _authorize(destination.opaque_authorization.rules, access, {}, ())


def edit_response(decision: Decision, head: ResponseHead, endpoint: Endpoint | None = None) -> None:
    """Edit a response head for the client. A local response has no endpoint."""
    rule, backend = decision.rule, decision.backend
    if backend is not None and backend.filters.response_edit is not None:
        head.headers = _filled(backend.filters.response_edit, decision.situation).apply(head.headers)
    if rule is not None and rule.filters.response_edit is not None:
        head.headers = _filled(rule.filters.response_edit, decision.situation).apply(head.headers)
    if decision.filtering is not None:
        decision.filtering.response_head(head, endpoint)


def request_trailers(
    decision: Decision, destination: Destination | None, head: RequestHead, trailers: Headers
) -> Headers:
    """Return the trailers to forward.

    Removes names that the head has, that were evaluated, or that were removed from the head. `head` is as sent to the
    endpoint.
    """
    if head.get(b"te") is None:
        return []  # RFC 9110 section 6.5.1: the client has not announced that it accepts trailers
    names = {name for name, _ in head.headers}
    if destination is not None:
        names |= destination.judged_names
    if decision.filtering is not None:
        names |= decision.filtering.replaced_names(of_response=False)
    for it in _edited_by(decision):
        if it.request_edit is not None:
            names |= it.request_edit.replaced_names
    return without(trailers, names)


def response_trailers(decision: Decision, trailers: Headers) -> Headers:
    """Return the trailers to forward, without names that were removed from the head."""
    names: set[bytes] = set()
    if decision.filtering is not None:
        names |= decision.filtering.replaced_names(of_response=True)
    for it in _edited_by(decision):
        if it.response_edit is not None:
            names |= it.response_edit.replaced_names
    return without(trailers, names) if names else trailers


def _edited_by(decision: Decision) -> list[Filters]:
    """Return everything that edits the request and its response, except filters."""
    return [it.filters for it in (decision.rule, decision.backend) if it is not None]


def _answer(filters: Filters, head: RequestHead, port: int) -> Answer:
    """Return the rule's own response: a redirect or a fixed response."""
    if filters.redirect is not None:
        return _redirected(filters.redirect, head, port)
    direct = filters.direct
    assert direct is not None
    headers = [(b"content-type", b"text/plain")] if direct.body else []
    return Answer(direct.status, headers, "direct_response", direct.body)


def _redirected(redirect: Redirect, head: RequestHead, port: int) -> Answer:
    return Answer(redirect.status, [(b"location", redirect.location(head, port))], "direct_response")
