"""The filter of HTTPRoute's CORS, and of a VirtualService's `corsPolicy`."""

from collections.abc import Iterator

from policies.attributes import ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.cors import Cors, preflight_method
from waypoint.config.words import text
from waypoint.filters.filter import Answer, Filter, Filtering
from waypoint.filters.part import Part

_DETAIL = "cors_response"


class CrossOrigin(Filter[Cors]):
    types = (Cors,)

    def request_head(self, policy: Cors, request: Filtering) -> None:
        head = request.head
        origin = policy.origin_of(head)
        if origin is not None:
            preflight = policy.preflight(head, origin)
            if preflight is not None:
                request.answer(Answer(200, preflight, _DETAIL))
            else:
                request.attach(_Readable(policy, origin))
        elif not policy.forwards_unmatched and preflight_method(head) is not None:
            request.answer(Answer(200, [], _DETAIL))

    def words(self, policy: Cors) -> Iterator[str]:
        origins = ", ".join(text(it.value) for it in policy.origins)
        yield f"CORS for pages of {origins or 'nobody'}{', with credentials' if policy.has_credentials else ''}"


class _Readable(Part):
    """Allows the page to read the response."""

    __slots__ = ("_cors", "_origin")

    def __init__(self, cors: Cors, origin: bytes) -> None:
        self._cors = cors
        self._origin = origin

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        head.headers = self._cors.mark(head.headers, self._origin)
