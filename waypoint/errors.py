"""All errors of an exchange, with status, response flag, detail and body as in Envoy's router.

Raise or pass these instead of statuses; `replies.local_reply` renders them. Bodies and details are byte for byte those
of Envoy, because dashboards and tests match on them.
"""

from policies.attributes import Header, Headers
from policies.authorization import Verdict
from policies.fault import Abort
from policies.jwt import Failure
from policies.outcome import Ending
from policies.verdict import ResponseFlag

_RESOURCE_EXHAUSTED = 8


class ExchangeError(Exception):
    """`status` goes to the client, the rest to the access log. `reason` explains the error to an operator.

    `limit` is the label under which the refusal is counted: the name of the exceeded setting, if there is one.
    """

    status = 500
    limit = ""
    flag: ResponseFlag | None = None
    detail = ""
    body = b""
    headers: tuple[Header, ...] = ()
    grpc_status: int | None = None
    """Status for gRPC clients. None: the one that `status` maps to."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class BadRequest(ExchangeError):
    """The request is ambiguous or invalid. The connection ends with the response."""

    status = 400
    flag = ResponseFlag.DOWNSTREAM_PROTOCOL_ERROR
    detail = "http1.codec_error"

    def __init__(self, detail: str, *, status: int = 400, limit: str = "malformed_http") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.limit = limit


class InternalFailure(ExchangeError):
    """A bug affected this request. `reason` names the exception; its trace is in the log."""

    limit = "internal_failure"
    flag = ResponseFlag.LOCAL_RESET
    detail = "internal_failure"


class UnwritableHead(ExchangeError):
    """A rule, an authorizer or a bug produced a head that must not be written. `message` is `request` or `response`."""

    limit = "unwritable_head"
    flag = ResponseFlag.LOCAL_RESET

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(reason)
        self.detail = f"unwritable_{message}_head"


class RouteNotFound(ExchangeError):
    status = 404
    flag = ResponseFlag.NO_ROUTE_FOUND
    detail = "route_not_found"


class BackendNotFound(ExchangeError):
    """The rule refers to a backend that does not exist or may not be used."""

    status = 500
    flag = ResponseFlag.NO_CLUSTER_FOUND
    detail = "cluster_not_found"

    def __init__(self, status: int = 500) -> None:
        super().__init__()
        self.status = status


class NoBackendWeight(ExchangeError):
    """The weights of a rule's backends add up to 0."""

    status = 500
    detail = "direct_response"


class NoHealthyEndpoint(ExchangeError):
    status = 503
    flag = ResponseFlag.NO_HEALTHY_UPSTREAM
    detail = "no_healthy_upstream"
    body = b"no healthy upstream"


class RequestTimeout(ExchangeError):
    status = 504
    flag = ResponseFlag.UPSTREAM_REQUEST_TIMEOUT
    detail = "response_timeout"
    body = b"upstream request timeout"


class StreamStalled(ExchangeError):
    """The client does not read its response."""

    limit = "stall_seconds"
    status = 408
    flag = ResponseFlag.STREAM_IDLE_TIMEOUT
    detail = "stream_idle_timeout"
    body = b"stream timeout"


class Overloaded(ExchangeError):
    """A limit was reached; `limit` is its setting."""

    status = 503
    flag = ResponseFlag.UPSTREAM_OVERFLOW
    detail = "overload"
    body = b"envoy overloaded"

    def __init__(self, limit: str) -> None:
        super().__init__(f"the limit {limit} is reached")
        self.limit = limit


class Denied(ExchangeError):
    """Denied by AuthorizationPolicies. `reason` names the policy."""

    status = 403
    body = b"RBAC: access denied"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(_why_denied(verdict))
        self.detail = verdict.detail


class NotAuthorized(ExchangeError):
    """The authorizer is unknown, unreachable, or gave an invalid answer."""

    flag = ResponseFlag.UNAUTHORIZED_EXTERNAL_SERVICE
    detail = "ext_authz_error"

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.status = status


class ExternallyDenied(ExchangeError):
    """An authorizer denied the request with this response."""

    flag = ResponseFlag.UNAUTHORIZED_EXTERNAL_SERVICE
    detail = "ext_authz_denied"

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__("an authorizer denied the request")
        self.status = status
        self.headers = tuple(headers)
        self.body = body


class PayloadTooLarge(ExchangeError):
    """An authorizer needs the whole body, which is too large."""

    status = 413
    detail = "request_payload_too_large"
    body = b"Payload Too Large"


class FaultInjected(ExchangeError):
    flag = ResponseFlag.FAULT_INJECTED
    detail = "fault_filter_abort"
    body = b"fault filter abort"

    def __init__(self, abort: Abort) -> None:
        super().__init__("a fault was injected")
        self.status = abort.status
        self.grpc_status = abort.grpc_status


class RateLimited(ExchangeError):
    """With `is_resource_exhausted`, gRPC clients get RESOURCE_EXHAUSTED; otherwise UNAVAILABLE, as in Envoy."""

    status = 429
    flag = ResponseFlag.RATE_LIMITED

    def __init__(
        self,
        *,
        is_resource_exhausted: bool = False,
        detail: str = "local_rate_limited",
        body: bytes = b"local_rate_limited",
    ) -> None:
        super().__init__("a rate limit is reached")
        self.detail = detail
        self.body = body
        self.grpc_status = _RESOURCE_EXHAUSTED if is_resource_exhausted else None


class RateLimitServiceFailed(ExchangeError):
    """The rate limit service did not answer in time, and the policy fails closed."""

    flag = ResponseFlag.RATE_LIMIT_SERVICE_ERROR
    detail = "rate_limiter_error"


class NotAuthenticated(ExchangeError):
    """The request's token was rejected. `challenge` is the value of `www-authenticate`."""

    def __init__(self, failure: Failure, challenge: bytes) -> None:
        super().__init__(failure.value)
        self.status = failure.status
        self.detail = f"jwt_authn_access_denied{{{failure.value.replace(' ', '_')}}}"
        self.body = failure.value.encode()
        self.headers = ((b"www-authenticate", challenge),)


class UpgradeRefused(ExchangeError):
    status = 403
    detail = "upgrade_failed"


class UpstreamOverflow(ExchangeError):
    """The destination's circuit breaker is open. There is no retry, and no endpoint is at fault."""

    status = 503
    flag = ResponseFlag.UPSTREAM_OVERFLOW
    detail = "upstream_reset_before_response_started{overflow}"
    headers = ((b"x-envoy-overloaded", b"true"),)

    def __init__(self, reason: str = "", *, has_retried: bool = False) -> None:
        super().__init__(reason)
        latest = b"retried and the latest " if has_retried else b""
        self.body = b"upstream connect error or disconnect/reset before headers. %breset reason: overflow" % latest


class AttemptFailed(ExchangeError):
    """One attempt brought no complete response. `ending` determines retries."""

    status = 503
    reset_reason = ""
    ending = Ending.RESET
    has_retried = False

    @property
    def body(self) -> bytes:  # type: ignore[override]
        text = "upstream connect error or disconnect/reset before headers. "
        text += "retried and the latest reset reason: " if self.has_retried else "reset reason: "
        text += self.reset_reason
        return (f"{text}, transport failure reason: {self.reason}" if self._shows_reason else text).encode()

    @property
    def detail(self) -> str:  # type: ignore[override]
        return f"upstream_reset_before_response_started{{{self.reset_reason.replace(' ', '_')}}}"

    @property
    def _shows_reason(self) -> bool:
        return False


class UpstreamConnectFailed(AttemptFailed):
    """TCP, TLS or CONNECT failed; nothing was delivered.

    `is_ours`: the reason is our own certificate or configuration, or a policy, so it says nothing about the endpoint's
    reachability.
    """

    flag = ResponseFlag.UPSTREAM_CONNECTION_FAILURE
    reset_reason = "remote connection failure"
    ending = Ending.CONNECT_FAILURE

    def __init__(self, reason: str = "", *, is_ours: bool = False) -> None:
        super().__init__(reason)
        self.is_ours = is_ours

    @property
    def _shows_reason(self) -> bool:
        return bool(self.reason)


class UpstreamClosed(AttemptFailed):
    """The connection ended before the response was complete."""

    flag = ResponseFlag.UPSTREAM_CONNECTION_TERMINATION
    reset_reason = "connection termination"


class UpstreamReset(AttemptFailed):
    flag = ResponseFlag.UPSTREAM_REMOTE_RESET
    reset_reason = "remote reset"

    def __init__(self, reason: str = "", *, is_undelivered: bool = False) -> None:
        super().__init__(reason)
        self.ending = Ending.REFUSED_STREAM if is_undelivered else Ending.RESET


class AttemptTimeout(AttemptFailed):
    """There was no response within the time limit of one attempt."""

    status = 504
    flag = ResponseFlag.UPSTREAM_REQUEST_TIMEOUT
    ending = Ending.TIMEOUT
    detail = "upstream_per_try_timeout"
    body = RequestTimeout.body


class UpstreamProtocolError(AttemptFailed):
    """The response is invalid. It is not forwarded, and the connection is not reused."""

    status = 502
    flag = ResponseFlag.UPSTREAM_PROTOCOL_ERROR
    reset_reason = "protocol error"

    def __init__(self, reason: str = "", *, limit: str = "malformed_response") -> None:
        super().__init__(reason)
        self.limit = limit


def _why_denied(verdict: Verdict) -> str:
    if verdict.rule is None:
        return "there are ALLOW policies, but none allows this"
    return f"denied by AuthorizationPolicy {verdict.rule.policy}, rule {verdict.rule.name}"
