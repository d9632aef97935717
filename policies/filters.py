"""The Gateway API filters of a rule or a backend.

Request filters run in this order: CORS (a preflight carries no credentials to check), external authorization, redirect,
request headers, rewrite, mirrors. Response filters: response headers, then CORS.
"""

from dataclasses import dataclass, field

from policies.cors import Cors
from policies.external_auth import Authorizer
from policies.mirror import Mirror
from policies.rewrite import HeaderEdit, Redirect, UrlRewrite


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """A fixed response, sent instead of calling an endpoint."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Filters:
    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    rewrite: UrlRewrite | None = None
    redirect: Redirect | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    direct: DirectResponse | None = None
    authorizer: Authorizer | None = None
    is_formatted: bool = field(init=False, repr=False)
    """Whether a header edit contains values that are computed for each request."""

    def __post_init__(self) -> None:
        edits = (self.request_edit, self.response_edit)
        object.__setattr__(self, "is_formatted", any(it is not None and it.formatted for it in edits))


NO_FILTERS = Filters()
