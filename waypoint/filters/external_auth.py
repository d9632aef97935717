"""Asks an authorizer whether a request may go on, over HTTP or gRPC, and says what becomes of the request.

Questions go out like any request of a client's: to a cluster, by mTLS where its endpoints are in the mesh. None is
waited for longer than the authorizer's timeout, and never longer than the setting `external_auth_seconds`: Istio's
default of ten minutes would hold as many requests as there are. Nonsense in place of an answer denies even where none
would allow: what a client sends may have brought it about.
"""

import asyncio
from dataclasses import dataclass

from l4.config.settings import Section
from l4.discovery.workload import AppProtocol
from policies.attributes import Peer
from policies.external_auth import Allowed, Authorizer, Denied, Question, Worthless, read_http
from waypoint.data_path import Connection, DataPath
from waypoint.errors import ExchangeError, ExternallyDenied, NotAuthorized, UpstreamProtocolError
from waypoint.filters.call import Response, call
from waypoint.http.events import Body
from waypoint.upstream.cluster import Cluster

_MAX_QUESTIONS = 1024  # under way at once
_MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class ExternalAuthSettings(Section):
    title = "External authorization"

    external_auth_seconds: float = 10.0
    """Longest wait for an external authorizer, whatever its provider's timeout is. Istio's default of 600 s would hold
    every request there is."""


@dataclass(slots=True)
class Asked:
    """What became of a question; exactly one of both is set."""

    allowed: Allowed | None = None
    error: ExchangeError | None = None


async def ask(
    connection: Connection, question: Question, cluster: Cluster | None, told: bytes, body: Body, protocol: str
) -> Asked:
    """`cluster` is the authorizer's; `told` is what it is told of the request's `body`."""
    authorizer, path = question.authorizer, connection.path
    asked, outcome = Asked(error=NotAuthorized(f"{authorizer.name} leads nowhere")), "error"
    if path.questions >= _MAX_QUESTIONS:
        asked = _failed(authorizer, f"{_MAX_QUESTIONS} questions are under way already")
    elif cluster is not None:
        path.questions += 1
        try:
            asked, outcome = await _answer(connection, question, cluster, told, body, protocol)
        finally:
            path.questions -= 1
    if asked.allowed is not None and outcome == "error":
        outcome = "failure_mode_allowed"
    path.telemetry.count_answer(authorizer.name, outcome)
    return asked


async def _answer(
    connection: Connection, question: Question, cluster: Cluster, told: bytes, body: Body, protocol: str
) -> tuple[Asked, str]:
    authorizer, path = question.authorizer, connection.path
    most = path.settings.of(ExternalAuthSettings).external_auth_seconds
    seconds = most if authorizer.timeout_seconds is None else min(authorizer.timeout_seconds, most)
    try:
        async with asyncio.timeout(seconds):
            if authorizer.is_grpc:
                from waypoint.filters import external_auth_grpc  # brings protobuf along, which few need

                destination = Peer(None, *connection.authority)
                message = external_auth_grpc.message(question, connection.peer, destination, told, body, protocol)
                request = external_auth_grpc.request(cluster.config.service.hostname, seconds)
                response = await call(path, cluster, request, message, is_http2=True, most=_MAX_ANSWER_BYTES)
                answer = external_auth_grpc.read(response)
            else:
                response = await _ask_http(path, question, cluster, told)
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


async def _ask_http(path: DataPath, question: Question, cluster: Cluster, told: bytes) -> Response:
    head = question.head
    head.path = (question.authorizer.path_prefix or b"") + head.path
    is_http2 = cluster.config.app_protocol in {AppProtocol.HTTP2, AppProtocol.GRPC}
    return await call(path, cluster, head, told, is_http2=is_http2, most=_MAX_ANSWER_BYTES)


def _failed(authorizer: Authorizer, reason: str) -> Asked:
    if authorizer.is_fail_open:
        return Asked(Allowed())
    return Asked(error=NotAuthorized(reason, authorizer.status_on_error))
