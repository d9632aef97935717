"""What happens to the requests of a rule, or of one of its backends, on their way: the Gateway API's filters.

Of a request, CORS comes first (a preflight that it answers bears no credentials to judge), then external authorization,
redirect, request headers, rewrite, mirrors; of a response, its headers, then CORS.
"""

from dataclasses import dataclass, field

from policies.cors import Cors
from policies.external_auth import Authorizer
from policies.mirror import Mirror
from policies.rewrite import HeaderEdit, Redirect, UrlRewrite


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """What is answered in an endpoint's place."""

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
    """Whether header values are found out for each request."""

    def __post_init__(self) -> None:
        edits = (self.request_edit, self.response_edit)
        object.__setattr__(self, "is_formatted", any(it is not None and it.formatted for it in edits))


NO_FILTERS = Filters()
