"""Ask a running waypoint through its administration port."""

from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import msgspec

from policies.host_port import host_port
from waypoint.ask.explanation import Explanation
from waypoint.ask.page import EXPLAIN_PATH
from waypoint.ask.question import InvalidQuestion, Question

_WAIT_SECONDS = 10.0
_MAX_ANSWER = 64 << 20


class CannotAsk(Exception):
    """The running waypoint could not be asked. The message says why."""


def ask(address: tuple[str, int], question: Question) -> Explanation:
    """Ask the waypoint with this administration port. Raises CannotAsk, InvalidQuestion."""
    host, port = address
    place = host_port(host, port)
    fields = [
        ("from", f"{question.namespace}/{question.account}"),
        ("to", question.to),
        ("method", question.method),
        ("path", question.target),
        *(("header", f"{name}: {value}") for name, value in question.headers),
    ]
    try:
        with build_opener(ProxyHandler({})).open(
            f"http://{place}{EXPLAIN_PATH}?{urlencode(fields)}", timeout=_WAIT_SECONDS
        ) as answer:
            return msgspec.json.decode(answer.read(_MAX_ANSWER), type=Explanation)
    except HTTPError as error:
        text = error.read(4096).decode(errors="replace").strip()
        if error.code == 400:
            raise InvalidQuestion(text) from None
        raise CannotAsk(
            f"{place} answered {error.code}: {text}; check that it is a waypoint's administration port"
        ) from None
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise CannotAsk(f"the administration port {place} is not reachable: {reason}") from None
    except msgspec.DecodeError as error:
        raise CannotAsk(f"{place} sent an unexpected answer ({error}); it may be another version") from None
