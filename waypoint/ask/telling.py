"""Format an explanation as text: the first line is the answer, the rest gives the reasons.

rich respects NO_COLOR, TERM and terminals itself. Lines are never truncated, so that names and addresses stay whole.
"""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from waypoint.ask.explanation import (
    Candidates,
    EndpointTold,
    Explanation,
    Found,
    Head,
    Outcome,
    PolicyTold,
    RuleTold,
    Verdict,
)
from waypoint.config.words import percent

_WIDTH = 14
_MAX_OBJECTS = 10
_MARKS = {Verdict.WON: ("✓", "bold green"), Verdict.WEAKER: ("·", ""), Verdict.LOST: ("✗", "dim")}
Line = tuple[str, str]
"""A line and its style."""


def tell(explanation: Explanation, console: Console) -> None:
    it = explanation
    console.print(Text(it.summary, style="bold"), soft_wrap=True)
    sections: list[tuple[str, Iterable[Line]]] = [("destination", _found(it.found))]
    if it.request is not None:
        sections.append(("request", _head(it.request)))
    if it.policies:
        sections.append(("policies", _policies(it.policies)))
    if it.candidates is not None:
        sections += [("routes", _routes(it.candidates)), ("matches", _matches(it.candidates))]
    if it.rule is not None:
        sections.append(("rule", _rule(it.rule)))
    sections += [(_title(outcome), _outcome(outcome)) for outcome in it.outcomes]
    if it.assumptions:
        sections.append(("assumed", ((assumption, "yellow") for assumption in it.assumptions)))
    for title, lines in sections:
        for number, (line, style) in enumerate(lines):
            start = "" if number else title
            console.print(Text.assemble((f"{start:{_WIDTH}}", "cyan"), (line, style)), soft_wrap=True)


def _found(found: Found) -> Iterator[Line]:
    known = "no declared protocol" if found.protocol == "unknown" else found.protocol
    protocol = f" ({known})" if known else ""
    yield f"{found.authority} is {found.service}{protocol}" if found.service else found.authority, ""
    yield found.why, "" if found.is_served else "yellow"
    yield from ((token, "") for token in found.tokens)
    for problem in found.problems:
        yield problem, "yellow"


def _head(head: Head) -> Iterator[Line]:
    yield f"{head.method} {head.target}, host {head.authority}", ""
    for name, value in head.headers:
        yield f"{name}: {value}", "dim"


def _policies(policies: Iterable[PolicyTold]) -> Iterator[Line]:
    for it in policies:
        mark, style = _MARKS[Verdict.WON if it.is_matching else Verdict.LOST]
        note = " (dry run)" if it.is_dry_run else " (decides)" if it.is_deciding else ""
        yield f"{mark} {it.action} {it.policy}{note} {it.words}", style


def _routes(candidates: Candidates) -> Iterator[Line]:
    yield f"{candidates.whose}: {candidates.why}", ""
    for name in candidates.objects[:_MAX_OBJECTS]:
        yield name, ""
    if len(candidates.objects) > _MAX_OBJECTS:
        yield f"and {len(candidates.objects) - _MAX_OBJECTS} more", "dim"


def _matches(candidates: Candidates) -> Iterator[Line]:
    for it in candidates.matches:
        mark, style = _MARKS[it.verdict]
        yield f"{mark} {it.rule}: {it.match}", style
        for reason in it.reasons:
            yield f"    {reason}", style
    if candidates.left_out:
        yield f"and {candidates.left_out} more with other paths", "dim"


def _rule(rule: RuleTold) -> Iterator[Line]:
    yield f"{rule.rule}; its name in logs is {rule.route_name}", ""
    for words in rule.does:
        yield words, ""
    for problem in rule.problems:
        yield problem, "yellow"


def _title(outcome: Outcome) -> str:
    return percent(outcome.share) if outcome.share < 1 else "outcome"


def _outcome(outcome: Outcome) -> Iterator[Line]:
    if outcome.backend:
        yield f"to {outcome.backend}, cluster {outcome.cluster}", ""
    if outcome.answer is not None:
        answer = outcome.answer
        marks = ", ".join(filter(None, (answer.flag, answer.detail)))
        yield f"answered with {answer.status} ({marks}): {answer.why}", "yellow" if answer.status >= 400 else ""
        for name, value in answer.headers:
            yield f"    {name}: {value}", "dim"
    for words in outcome.does:
        yield words, ""
    for endpoint in outcome.endpoints:
        yield _endpoint(endpoint), "" if endpoint.is_healthy else "dim"
    if outcome.sees is not None:
        first, *headers = _head(outcome.sees)
        yield f"sees {first[0]}", ""
        for line, style in headers:
            yield f"    {line}", style


def _endpoint(endpoint: EndpointTold) -> str:
    identity = f" as {endpoint.identity}" if endpoint.identity else ""
    is_ready = "" if endpoint.is_healthy else "; not ready"
    return f"endpoint {endpoint.address}, {endpoint.workload}, by {endpoint.over}{identity}{is_ready}"
