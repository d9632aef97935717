"""Every way in which an exchange can fail: its status, response flag, detail and body, as Envoy's router gives them.

Raise or pass these, never a status: `replies.local_reply` renders any of them. Bodies and details are byte for byte
what Envoy sends (dashboards and tests of others match on them).
"""

from policies.attributes import Header, Headers
from policies.authorization import Verdict
from policies.fault import Abort
from policies.jwt import Failure
from policies.outcome import Ending
from policies.verdict import ResponseFlag

_RESOURCE_EXHAUSTED = 8


class ExchangeError(Exception):
    """`status` goes to the client, the rest to the access log; `reason` says more to an operator.

    `limit` is what the refusal is counted under: the name of the setting that was exceeded, where that is why.
    """

    status = 500
    limit = ""
    flag: ResponseFlag | None = None
    detail = ""
    body = b""
    headers: tuple[Header, ...] = ()
    grpc_status: int | None = None
    """For clients that speak gRPC; None: the one that `status` stands for."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class BadRequest(ExchangeError):
    """The request could mean two things, or nothing: the connection ends with the answer."""

    status = 400
    flag = ResponseFlag.DOWNSTREAM_PROTOCOL_ERROR
    detail = "http1.codec_error"

    def __init__(self, detail: str, *, status: int = 400, limit: str = "malformed_http") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.limit = limit


class InternalFailure(ExchangeError):
    """A fault of the program itself met this request. `reason` names it; its trace is in the log."""

    limit = "internal_failure"
    flag = ResponseFlag.LOCAL_RESET
    detail = "internal_failure"


class UnwritableHead(ExchangeError):
    """A rule, an authorizer or the program made a head of what must not be written; `message` is which of the two. It
    is not written."""

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
    """The rule names a backend that does not exist or may not be used."""

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
    """The client takes nothing of what waits for it."""

    limit = "stall_seconds"
    status = 408
    flag = ResponseFlag.STREAM_IDLE_TIMEOUT
    detail = "stream_idle_timeout"
    body = b"stream timeout"


class Overloaded(ExchangeError):
    """`limit` is the setting whose bound has been reached."""

    status = 503
    flag = ResponseFlag.UPSTREAM_OVERFLOW
    detail = "overload"
    body = b"envoy overloaded"

    def __init__(self, limit: str) -> None:
        super().__init__(f"{limit} is reached")
        self.limit = limit


class Denied(ExchangeError):
    """By AuthorizationPolicies; `reason` says which in a sentence."""

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
    """An authorizer says no, in its own words."""

    flag = ResponseFlag.UNAUTHORIZED_EXTERNAL_SERVICE
    detail = "ext_authz_denied"

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__("an authorizer said no")
        self.status = status
        self.headers = tuple(headers)
        self.body = body


class PayloadTooLarge(ExchangeError):
    """An authorizer is to be told the whole body, and can't be."""

    status = 413
    detail = "request_payload_too_large"
    body = b"Payload Too Large"


class FaultInjected(ExchangeError):
    flag = ResponseFlag.FAULT_INJECTED
    detail = "fault_filter_abort"
    body = b"fault filter abort"

    def __init__(self, abort: Abort) -> None:
        super().__init__("a fault was asked for")
        self.status = abort.status
        self.grpc_status = abort.grpc_status


class RateLimited(ExchangeError):
    """`is_resource_exhausted` is what gRPC calls it; else it is UNAVAILABLE, as in Envoy."""

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
    """It did not answer in time, and its policy lets nothing pass without it."""

    flag = ResponseFlag.RATE_LIMIT_SERVICE_ERROR
    detail = "rate_limiter_error"


class NotAuthenticated(ExchangeError):
    """The request's token is not accepted. `challenge` is the value of `www-authenticate`."""

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
    """The destination has as much under way as its circuit breaker allows. Nobody is asked again, and no endpoint is to
    blame."""

    status = 503
    flag = ResponseFlag.UPSTREAM_OVERFLOW
    detail = "upstream_reset_before_response_started{overflow}"
    headers = ((b"x-envoy-overloaded", b"true"),)

    def __init__(self, reason: str = "", *, has_retried: bool = False) -> None:
        super().__init__(reason)
        latest = b"retried and the latest " if has_retried else b""
        self.body = b"upstream connect error or disconnect/reset before headers. %breset reason: overflow" % latest


class AttemptFailed(ExchangeError):
    """One attempt at one endpoint did not bring a whole response; retries are decided by its `ending`."""

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
    """TCP, TLS or CONNECT failed: nothing was delivered. `is_ours`: because of our own certificate or configuration, or
    a policy, so that it says nothing about whether the endpoint can be reached."""

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
    """The connection ended before the response was whole."""

    flag = ResponseFlag.UPSTREAM_CONNECTION_TERMINATION
    reset_reason = "connection termination"


class UpstreamReset(AttemptFailed):
    flag = ResponseFlag.UPSTREAM_REMOTE_RESET
    reset_reason = "remote reset"

    def __init__(self, reason: str = "", *, is_undelivered: bool = False) -> None:
        super().__init__(reason)
        self.ending = Ending.REFUSED_STREAM if is_undelivered else Ending.RESET


class AttemptTimeout(AttemptFailed):
    """No response within the time that one attempt has."""

    status = 504
    flag = ResponseFlag.UPSTREAM_REQUEST_TIMEOUT
    ending = Ending.TIMEOUT
    detail = "upstream_per_try_timeout"
    body = RequestTimeout.body


class UpstreamProtocolError(AttemptFailed):
    """The response breaks HTTP's rules: it is not passed on, the connection is not used again."""

    status = 502
    flag = ResponseFlag.UPSTREAM_PROTOCOL_ERROR
    reset_reason = "protocol error"

    def __init__(self, reason: str = "", *, limit: str = "malformed_response") -> None:
        super().__init__(reason)
        self.limit = limit


def _why_denied(verdict: Verdict) -> str:
    if verdict.rule is None:
        return "there are policies that allow, and none of them allows this"
    return f"denied by AuthorizationPolicy {verdict.rule.policy}, by {verdict.rule.name}"
