"""The filter of HTTPRoute's ExternalAuth, and of AuthorizationPolicies of action CUSTOM.

It asks an authorizer, over HTTP or gRPC, whether a request may go on.
Questions go out like any request of a client's: to a cluster, by mTLS where its endpoints are in the mesh. None is
waited for longer than the authorizer's timeout, and never longer than the setting `external_auth_seconds`: Istio's
default of ten minutes would hold as many requests as there are. Nonsense in place of an answer denies even where none
would allow: what a client sends may have brought it about.
"""

import asyncio
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from l4.config.settings import Section
from l4.discovery.workload import AppProtocol
from l4.telemetry.metrics import counter
from policies.access import Access
from policies.attributes import Peer, RequestHead, ResponseHead
from policies.authorizer import (
    Allowed,
    Authorizer,
    CustomAuthorizers,
    Denied,
    Question,
    Worthless,
    read_http,
)
from policies.balancing.endpoint import Endpoint
from policies.cors import Cors, preflight_method
from waypoint.config.snapshot import Destination
from waypoint.config.words import cluster_name
from waypoint.errors import (
    ExchangeError,
    ExternallyDenied,
    NotAuthorized,
    PayloadTooLarge,
    UpstreamProtocolError,
)
from waypoint.filters.call import Response, call
from waypoint.filters.filter import Act, Environment, Filter, Filtering, Waiting, waits
from waypoint.filters.part import Part
from waypoint.telemetry.phases import phase
from waypoint.upstream.cluster import Cluster

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Span

_MAX_QUESTIONS = 1024  # under way at once
_MAX_ANSWER_BYTES = 64 << 10

EXTERNAL_AUTH = counter("pywaypoint_external_auth", "Questions to an external authorizer.", ("provider", "outcome"))


@dataclass(frozen=True, slots=True)
class ExternalAuthSettings(Section):
    title = "External authorization"

    external_auth_seconds: float = 10.0
    """Longest wait for an external authorizer, whatever its provider's timeout is. Istio's default of 600 s would hold
    every request there is."""


@dataclass(slots=True)
class Asked:
    """The result of a question: either `allowed` or `error` is set."""

    allowed: Allowed | None = None
    error: ExchangeError | None = None


class ExternalAuthorization(Filter[Authorizer | CustomAuthorizers]):
    """`questions` is the number of questions under way."""

    types = (CustomAuthorizers, Authorizer)
    metrics = (EXTERNAL_AUTH,)
    settings = (ExternalAuthSettings,)

    def __init__(self) -> None:
        self.questions = 0

    def begin(self, environment: Environment) -> None:
        self._environment = environment
        self._answers = environment.metrics.of(EXTERNAL_AUTH)

    def request_head(self, policy: Authorizer | CustomAuthorizers, request: Filtering) -> Act | None:
        if isinstance(policy, CustomAuthorizers):
            question = first_question(request.destination, request.peer, request.head, request.granted)
        else:
            question = None if _is_answered_by_cors(request) else policy.question(request.head)
        if question is None:
            return None
        if question.authorizer.cluster is not None:
            request.want(question.authorizer.cluster)
        request.attach(answer := _Answer(request))
        return waits(partial(self._ask, question, answer, request))

    async def _ask(self, question: Question, answer: "_Answer", request: Filtering, waiting: Waiting) -> None:
        authorizer = question.authorizer
        told = await waiting.told_of_body(authorizer.max_body_bytes, takes_part=authorizer.takes_part)
        asked = Asked(error=PayloadTooLarge()) if told is None else await self._asked(question, request, told)
        if asked.allowed is not None:
            request.granted = (*request.granted, authorizer.name)
            answer.take(asked.allowed)
        elif asked.error is not None:
            request.answer(asked.error)

    async def _asked(self, question: Question, request: Filtering, told: bytes) -> Asked:
        """Ask the authorizer. `told` is the part of the request's body that it gets."""
        authorizer = question.authorizer
        cluster = request.clusters[authorizer.cluster] if authorizer.cluster is not None else None
        asked, outcome = Asked(error=NotAuthorized(f"{authorizer.name} cannot be resolved")), "error"
        if self.questions >= _MAX_QUESTIONS:
            asked = _failed(authorizer, f"{_MAX_QUESTIONS} questions are under way already")
        elif cluster is not None:
            self.questions += 1
            try:
                with phase(request.record, f"authorize {authorizer.name}") as span:
                    asked, outcome = await _answer(self._environment, question, cluster, request, told, span)
                    if span is not None:
                        span.note("outcome", outcome)
            finally:
                self.questions -= 1
        if asked.allowed is not None and outcome == "error":
            outcome = "failure_mode_allowed"
        self._answers.labels((authorizer.name, outcome)).add()
        return asked

    def words(self, policy: Authorizer | CustomAuthorizers) -> Iterator[str]:
        for authorizer in (policy,) if isinstance(policy, Authorizer) else policy.by_name.values():
            yield authorizer_words(authorizer)


class _Answer(Part):
    """The authorizer's changes to the request and its response."""

    __slots__ = ("_allowed", "_request")

    def __init__(self, request: Filtering) -> None:
        self._request = request
        self._allowed: Allowed | None = None

    def take(self, allowed: Allowed) -> None:
        self._allowed = allowed
        if allowed.request_edit is not None:
            self._request.edit(allowed.request_edit)
        allowed.edit_query(self._request.head)

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        if self._allowed is not None and self._allowed.response_edit is not None:
            self._request.edit_response(head, self._allowed.response_edit)


def first_question(
    destination: Destination, peer: Peer, head: RequestHead, granted: Container[str] = ()
) -> Question | None:
    """Return the first question that policies of action CUSTOM ask. It comes before everything else, tokens included.

    None if there is no question, or if a provider is unknown: the request is then denied whatever the others answer.
    """
    if destination.authorization is None or destination.authorizers is None:
        return None
    access = Access(peer, destination.addresses, destination.port, head)
    providers = destination.authorization.custom_providers(access, granted)
    if not providers or not destination.authorizers.keys() >= set(providers):
        return None
    return destination.authorizers[providers[0]].question(head)


def _is_answered_by_cors(request: Filtering) -> bool:
    """Whether the CORS filter answers this preflight, which has no credentials to judge."""
    if request.rule is None or preflight_method(request.head) is None:
        return False
    cors = request.rule.filters.get(Cors)
    return cors is not None and cors.origin_of(request.head) is not None


async def _answer(
    environment: Environment,
    question: Question,
    cluster: Cluster,
    request: Filtering,
    told: bytes,
    span: "Span | None",
) -> tuple[Asked, str]:
    authorizer, most = question.authorizer, environment.settings.of(ExternalAuthSettings).external_auth_seconds
    seconds = most if authorizer.timeout_seconds is None else min(authorizer.timeout_seconds, most)
    try:
        async with asyncio.timeout(seconds):
            if authorizer.is_grpc:
                from waypoint.filters import external_auth_grpc  # see waypoint.process.loading

                destination = Peer(None, *request.authority)
                message = external_auth_grpc.message(
                    question, request.peer, destination, told, request.body, request.protocol
                )
                head = external_auth_grpc.request(cluster.config.service.hostname, seconds)
                if span is not None:
                    span.inject(head.headers)
                response = await call(environment, cluster, head, message, is_http2=True, most=_MAX_ANSWER_BYTES)
                answer = external_auth_grpc.read(response)
            else:
                if span is not None:
                    span.inject(question.head.headers)
                response = await _ask_http(environment, question, cluster, told)
                answer = read_http(authorizer, response.head, response.body)
    except TimeoutError:
        return _failed(authorizer, f"no answer within {seconds:g} s"), "error"
    except (Worthless, UpstreamProtocolError) as error:
        return Asked(error=NotAuthorized(str(error), authorizer.status_on_error)), "error"
    except ExchangeError as error:
        return _failed(authorizer, error.reason or error.detail), "error"
    match answer:
        case Allowed():
            return Asked(answer), "ok"
        case Denied(status, headers, text):
            return Asked(error=ExternallyDenied(status, headers, text)), "denied"
    return _failed(authorizer, f"answered with {response.head.status}"), "error"


async def _ask_http(environment: Environment, question: Question, cluster: Cluster, told: bytes) -> Response:
    head = question.head
    head.path = (question.authorizer.path_prefix or b"") + head.path
    is_http2 = cluster.config.app_protocol in {AppProtocol.HTTP2, AppProtocol.GRPC}
    return await call(environment, cluster, head, told, is_http2=is_http2, most=_MAX_ANSWER_BYTES)


def _failed(authorizer: Authorizer, reason: str) -> Asked:
    if authorizer.is_fail_open:
        return Asked(Allowed())
    return Asked(error=NotAuthorized(reason, authorizer.status_on_error))


def authorizer_words(authorizer: Authorizer) -> str:
    if authorizer.cluster is None:
        return f"deny: the authorizer {authorizer.name} cannot be resolved"
    protocol = "gRPC" if authorizer.is_grpc else "HTTP"
    body = f", with {authorizer.max_body_bytes} bytes of the body" if authorizer.max_body_bytes else ""
    failing = ", and continue if it fails" if authorizer.is_fail_open else ""
    return f"ask {cluster_name(authorizer.cluster)} by {protocol} first{body}{failing}"
