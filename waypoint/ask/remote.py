"""Ask a running waypoint through its administration port."""

import msgspec

from l4.asking.admin import Admin, CannotAsk, Refused
from l4.asking.reach import Target, reached
from waypoint.ask.explanation import Explanation
from waypoint.ask.page import EXPLAIN_PATH
from waypoint.ask.question import InvalidQuestion, Question


async def ask(admin: Admin, question: Question) -> Explanation:
    """Ask the waypoint with this administration port. Raises CannotAsk, InvalidQuestion."""
    fields = [
        ("from", f"{question.namespace}/{question.account}"),
        ("to", question.to),
        ("method", question.method),
        ("path", question.target),
        *(("header", f"{name}: {value}") for name, value in question.headers),
    ]
    try:
        return msgspec.json.decode(await admin.get(EXPLAIN_PATH, fields), type=Explanation)
    except Refused as error:
        if error.status == 400:
            raise InvalidQuestion(error.said) from None
        raise
    except msgspec.DecodeError as error:
        raise CannotAsk(f"{admin.name} sent an unexpected answer ({error}); it may be another version") from None


async def ask_target(target: Target, question: Question) -> Explanation:
    """Ask a running waypoint. All pods of one have the same configuration. Raises CannotAsk, InvalidQuestion."""
    async with reached(target) as admins:
        return await ask(admins[0], question)
