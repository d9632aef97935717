"""Discarded responses of failed attempts; whole retries: tests/waypoint/test_retries.py."""

import asyncio
from typing import cast

import pytest

from policies.attributes import ResponseHead
from tests.kit.virtual_time import run_virtually
from tests.waypoint.http.test_h2_connection import Answer
from waypoint.http.client import Http1Client
from waypoint.http.events import EMPTY, OPAQUE, Body
from waypoint.upstream.watch import DISCARD_SECONDS, MAX_DISCARDED_BYTES, Discarded, Watch

HEAD = ResponseHead(503, [])


class Connection:
    """All that is asked of a client's connection."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def discarded(body: Body, *, is_request_complete: bool = True) -> tuple[Discarded, Connection]:
    connection = Connection()
    return Discarded(cast(Http1Client, connection), body, is_request_complete=is_request_complete), connection


def test_a_small_rest_is_read_so_that_the_connection_can_serve_others() -> None:
    async def scenario() -> None:
        rest, connection = discarded(Body(100))

        rest.response_body(bytes(100))
        rest.response_end([])
        await asyncio.sleep(DISCARD_SECONDS + 1)

        assert not connection.is_aborted

    run_virtually(scenario())


def test_a_rest_that_does_not_come_in_time_is_cut_off() -> None:
    async def scenario() -> None:
        rest, connection = discarded(Body(100))
        rest.response_body(bytes(99))

        await asyncio.sleep(DISCARD_SECONDS + 0.1)

        assert connection.is_aborted

    run_virtually(scenario())


def test_a_rest_of_unknown_length_is_cut_off_when_it_grows_too_large() -> None:
    async def scenario() -> None:
        rest, connection = discarded(Body(None))

        rest.response_body(bytes(MAX_DISCARDED_BYTES))
        before = connection.is_aborted
        rest.response_body(b"x")

        assert (before, connection.is_aborted) == (False, True)

    run_virtually(scenario())


@pytest.mark.parametrize(
    ("body", "is_request_complete"), [(Body(MAX_DISCARDED_BYTES + 1), True), (OPAQUE, True), (Body(1), False)]
)
def test_what_would_take_long_is_cut_off_at_once(body: Body, is_request_complete: bool) -> None:
    async def scenario() -> None:
        _, connection = discarded(body, is_request_complete=is_request_complete)

        assert connection.is_aborted

    run_virtually(scenario())


def test_without_a_body_there_is_nothing_to_wait_for() -> None:
    async def scenario() -> None:
        _, connection = discarded(EMPTY)

        await asyncio.sleep(DISCARD_SECONDS + 1)

        assert not connection.is_aborted

    run_virtually(scenario())


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_judge_says_who_gets_a_response(is_shown: bool) -> None:
    async def scenario() -> None:
        rest, _ = discarded(Body(1))

        class Judge:
            def answered(self, head: ResponseHead, body: Body) -> Discarded | None:
                return None if is_shown else rest

        shown = Answer()
        watch = Watch(Judge(), shown)

        watch.response_head(HEAD, Body(1))
        watch.response_body(b"x")
        watch.response_end([])

        assert shown.end == ("whole" if is_shown else "")

    run_virtually(scenario())
