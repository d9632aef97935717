"""Explain the routing of a request: the destination, the candidate routes, the winner and its effect.

`decide` determines the rule and the outcome; this module puts them into words. Momentary state (ejections, active
requests) is ignored: the endpoints shown are all that may be picked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from l4.config.documents import Problem
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import Health, Service, Workload
from policies.access import Access
from policies.attributes import ClusterName, Headers, Identity, Peer, RequestHead
from policies.host_port import host_port
from policies.route import Rule
from waypoint.ask.explanation import (
    Answer,
    Candidates,
    EndpointTold,
    Explanation,
    Found,
    Head,
    Outcome,
    PolicyTold,
    RuleTold,
)
from waypoint.ask.judge import judge
from waypoint.ask.load import Loaded
from waypoint.ask.possibilities import Possibility, is_opaque, possibilities
from waypoint.ask.question import NEW_REQUEST_ID, Question, as_exchanged
from waypoint.ask.words import (
    filter_words,
    rule_name,
    rule_words,
    token_words,
)
from waypoint.config.istio.authorization_words import rule_words as authorization_words
from waypoint.config.snapshot import Destination, Snapshot, why_not_served
from waypoint.config.words import cluster_name, percent, text
from waypoint.errors import BackendNotFound, ExchangeError, NoBackendWeight, NoHealthyEndpoint, RouteNotFound
from waypoint.filters.external_auth import authorizer_words, first_question

_REASONS: dict[type[ExchangeError], str] = {
    RouteNotFound: "no rule matches",
    BackendNotFound: "the rule refers to an unusable backend",
    NoBackendWeight: "the weights of the rule's backends add up to 0",
    NoHealthyEndpoint: "it has no ready endpoint",
}


def snapshot_for(loaded: Loaded, question: Question) -> Snapshot:
    """Return the snapshot of the waypoint that serves the service in question. Raises InvalidQuestion."""
    authority = question.authority(loaded.registry)
    serving = (snapshot for snapshot in loaded.snapshots.values() if snapshot.destination(authority) is not None)
    others = iter(loaded.snapshots.values())
    return next(serving, None) or next(others, None) or Snapshot("", loaded.registry, problems=loaded.problems)


def explain(snapshot: Snapshot, question: Question, settings: Settings, now: float) -> Explanation:
    """Explain a request. `now` is wall-clock time, for session expiry. Raises InvalidQuestion."""
    authority = question.authority(snapshot.registry)
    client = f"{question.namespace}/{question.account}"
    asked = f"{question.method} {question.to}{question.target} from {client}"
    destination = snapshot.destination(authority)
    service = _service_at(snapshot.registry, authority[0])
    if service is not None and not service.is_visible_in(question.namespace):
        destination = None  # the client's ztunnel cannot see it
    found = _found(snapshot, authority, destination)
    told = _Told(snapshot, client, found)
    if destination is None:
        return told.explanation(f"{asked} → {found.why}")
    try:
        head = as_exchanged(question.head(settings), destination)
    except ExchangeError as error:
        refusal = Outcome(1.0, 0, "", answer=_answer(error, "rejected before routing"))
        return told.explanation(f"{asked} → {error.status}, rejected before routing: {error.detail}", (refusal,))
    peer = question.peer(settings)
    possible = possibilities(destination, peer, head, now)
    outcomes = tuple(_outcome(it, snapshot) for it in possible)
    told.request = None if is_opaque(destination) else _head(head)
    told.policies = tuple(_policies(destination, peer, head))
    told.candidates = _candidates(destination, peer, head)
    rule = possible[0].rule
    through = f" → {rule_name(rule)}" if rule is not None else ""
    if rule is not None:
        does = (*_asked_first(destination, peer, head), *rule_words(rule))
        told.rule = RuleTold(rule.name, rule_name(rule), does, tuple(_problems(snapshot, rule)))
    return told.explanation(f"{asked}{through} → {', '.join(map(_short, outcomes))}", outcomes)


@dataclass(slots=True)
class _Told:
    """The results so far."""

    snapshot: Snapshot
    client: str
    found: Found
    request: Head | None = None
    candidates: Candidates | None = None
    rule: RuleTold | None = None
    policies: tuple[PolicyTold, ...] = ()

    def explanation(self, summary: str, outcomes: tuple[Outcome, ...] = ()) -> Explanation:
        version = self.snapshot.version
        return Explanation(
            summary, self.client, version, self.request, self.found, self.candidates, self.rule, outcomes, self.policies
        )


# -- the destination -----------------------------------------------------------------------------------------------


def _found(snapshot: Snapshot, authority: tuple[str, int], destination: Destination | None) -> Found:
    host, port = authority
    registry = snapshot.registry
    service = _service_at(registry, host)
    bound = service or registry.workload_at(host)
    waypoint = bound.waypoint if bound is not None else None
    name = f"{waypoint.namespace}/{waypoint.gateway}" if waypoint is not None else ""
    place = host_port(host, port)
    if destination is not None and destination.is_leaving:
        why = "bound to this waypoint no longer, and served for a moment more"
        return Found(place, destination.service.hostname, destination.app_protocol.value, name, True, why)
    if destination is not None:
        label = f" by the label istio.io/use-waypoint of {waypoint.bound_by}" if waypoint is not None else ""
        why = f"bound to the waypoint {name}{label}{_shares(service)}"
        what = (
            f"workload {bound.name}.{bound.namespace}" if isinstance(bound, Workload) else destination.service.hostname
        )
        tokens = tuple(token_words(destination.authentication)) if destination.authentication is not None else ()
        return Found(place, what, destination.app_protocol.value, name, True, why, tokens=tokens)
    if service is not None and snapshot.destination(authority) is not None:
        why = f"no waypoint handles it: {registry.why_no_host(service.hostname)}"
    elif waypoint is not None and service is not None and port in {it.port for it in service.ports}:
        why = f"another waypoint handles it: {service.hostname} is bound to {name}"
    else:
        why = _unserved(snapshot, authority, service)
    return Found(place, service.hostname if service else "", "", name, False, why, _bindings(registry, service))


def _shares(service: Service | None) -> str:
    if service is None or not service.shares:
        return ""
    shares = (f"{it.waypoint.namespace}/{it.waypoint.gateway} gets {it.weight} %" for it in service.shares)
    return f"; of its connections, {' and '.join(shares)}"


def _service_at(registry: Registry, host: str) -> Service | None:
    return registry.service_at(host) or registry.service_with(host)


def _unserved(snapshot: Snapshot, authority: tuple[str, int], service: Service | None) -> str:
    if service is not None and service.waypoint is None:
        return f"no waypoint handles it: {service.hostname} is not bound to one"
    return f"no waypoint serves it: {why_not_served(snapshot, authority)}"


def _bindings(registry: Registry, service: Service | None) -> tuple[str, ...]:
    """Return the problems of labels that request a waypoint in vain."""
    if service is None:
        return ()
    subjects = {f"Service {service.namespace}/{service.name}", f"Namespace {service.namespace}"}
    return tuple(str(problem) for problem in registry.problems if problem.subject in subjects)


# -- the policies --------------------------------------------------------------------------------------------------


def _policies(destination: Destination, peer: Peer, head: RequestHead) -> Iterator[PolicyTold]:
    """Evaluate each AuthorizationPolicy rule separately. A token's claims are not known here."""
    addresses, port = destination.addresses, destination.port
    if is_opaque(destination):
        authorization, access = destination.opaque_authorization, Access(peer, addresses, port)
    else:
        authorization, access = destination.authorization, Access(peer, addresses, port, head)
    if authorization is None:
        return
    decider = authorization.judge(access).rule
    for policy in authorization.policies:
        name, action, is_dry_run = str(policy), policy.action.value, policy.is_dry_run
        for it in policy.rules:
            words, is_deciding = f"rules[{it.index}]: {authorization_words(it)}", False
            if decider is not None:
                is_deciding = decider.policy is policy and decider.index == it.index
            yield PolicyTold(name, action, words, it.matches(access), is_dry_run, is_deciding)
        if not policy.rules:
            yield PolicyTold(name, action, "no rules, so it matches nothing", False, is_dry_run)


def _asked_first(destination: Destination, peer: Peer, head: RequestHead) -> Iterator[str]:
    """Yield the authorizers, assuming that each allows the request unchanged."""
    granted: set[str] = set()
    while not is_opaque(destination) and (question := first_question(destination, peer, head, granted)) is not None:
        granted.add(question.authorizer.name)
        yield f"{authorizer_words(question.authorizer)}, because of AuthorizationPolicies"


# -- the routes ----------------------------------------------------------------------------------------------------


def _candidates(destination: Destination, peer: Peer, head: RequestHead) -> Candidates:
    if is_opaque(destination):
        why = f"the port carries {destination.app_protocol.value}: bytes are forwarded without inspection"
        return Candidates("opaque", why, (), ())
    table = destination.routes_for(peer)
    sources = (route.rule.source for route in table.routes)
    objects = tuple(sorted({f"{it.kind} {it.namespace}/{it.name}" for it in sources if it is not None}))
    matches, left_out = judge(table, head, peer)
    if table is not destination.routes:
        why = "the client's namespace has its own routes to this service, for its clients only"
        return Candidates("consumer", why, objects, matches, left_out)
    if not objects:
        return Candidates("default", "no route is attached to this port", objects, matches, left_out)
    why = "routes of the service's namespace; the client's namespace has none for this service"
    return Candidates("producer", why, objects, matches, left_out)


def _problems(snapshot: Snapshot, rule: Rule) -> Iterator[str]:
    """Yield the compiler's problems of a rule, which explain unusable backends."""
    source = rule.source
    if source is None:
        return
    subject, field = f"{source.kind} {source.namespace}/{source.name}", f"spec.{source.section}[{source.index}]"
    yield from (str(it) for it in snapshot.problems if it.subject == subject and _is_below(it, field))


def _is_below(problem: Problem, field: str) -> bool:
    return problem.field == field or problem.field.startswith((f"{field}.", f"{field}["))


# -- the result ----------------------------------------------------------------------------------------------------


def _outcome(it: Possibility, snapshot: Snapshot) -> Outcome:
    backend = it.rule.backends[it.backend] if it.rule is not None and it.backend is not None else None
    does = tuple(filter_words(backend.filters)) if backend is not None else ()
    weight = backend.weight if backend is not None else 0
    if it.answer is not None:
        why = "the route sends a fixed response"
        return Outcome(
            it.share,
            weight,
            "",
            does,
            answer=Answer(it.answer.status, "", it.answer.detail, why, _pairs(it.answer.headers)),
        )
    if it.error is not None:
        return Outcome(it.share, weight, "", does, answer=_answer(it.error))
    assert it.cluster is not None
    endpoints = tuple(_endpoints(snapshot, it.cluster))
    is_empty = not any(endpoint.is_healthy for endpoint in endpoints)
    return Outcome(
        share=it.share,
        weight=weight,
        backend=cluster_name(it.cluster),
        does=does,
        cluster=it.cluster,
        endpoints=endpoints,
        sees=_head(it.head) if it.head is not None else None,
        answer=_answer(NoHealthyEndpoint()) if is_empty else None,
    )


def _endpoints(snapshot: Snapshot, cluster: ClusterName) -> Iterator[EndpointTold]:
    """Yield usable endpoints including DNS names, then the service's endpoints that are not ready."""
    config = snapshot.clusters[cluster]
    for endpoint in config.endpoints:
        yield _endpoint_told(str(endpoint), endpoint.workload.workload, endpoint.identity, is_ready=True)
    for named in config.names:
        address, workload = f"{named.name}:{named.ports[config.port]}", named.workload
        yield _endpoint_told(address, workload.workload_name, workload.tunnel_identity, is_ready=True)
    if config.followed is not None:
        port, whoever = config.followed.ports[config.port], config.followed.workload
        yield _endpoint_told(f"({config.followed.by.value}):{port}", whoever.workload_name, None, is_ready=True)
    picked = {endpoint.ip for endpoint in config.endpoints}
    service = snapshot.registry.services.get(config.service.hostname)
    for it in service.endpoints if service is not None else ():
        workload = it.workload
        is_waiting = it.health is not Health.READY and picked.isdisjoint(workload.addresses)
        if is_waiting and workload.addresses and config.port in it.ports:
            address = host_port(workload.addresses[0], it.ports[config.port])
            yield _endpoint_told(address, workload.workload_name, workload.tunnel_identity, is_ready=False)


def _endpoint_told(address: str, workload: str, tunnel: Identity | None, *, is_ready: bool) -> EndpointTold:
    over = "HBONE" if tunnel is not None else "plain TCP"
    return EndpointTold(address, workload, str(tunnel or ""), over, is_ready)


def _answer(error: ExchangeError, why: str = "") -> Answer:
    return Answer(error.status, str(error.flag or ""), error.detail, why or _REASONS.get(type(error), error.reason))


def _head(head: RequestHead) -> Head:
    return Head(text(head.method), text(head.authority), text(head.target), _pairs(head.headers))


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((text(name), "(a new one)" if value == NEW_REQUEST_ID else text(value)) for name, value in headers)


def _short(outcome: Outcome) -> str:
    """Format an outcome for the first line: `90 % reviews-v2.default:9080`."""
    share = f"{percent(outcome.share)} " if outcome.share < 1 else ""
    if outcome.backend:
        return f"{share}{outcome.backend}" + (" (503, no endpoint is ready)" if outcome.answer is not None else "")
    assert outcome.answer is not None
    location = next((f" to {value}" for name, value in outcome.answer.headers if name == "location"), "")
    because = location or f" ({outcome.answer.why})"
    return f"{share}{outcome.answer.status}{because}"
