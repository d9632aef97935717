import time

from bench import pages
from bench.pages import Page
from tests.bench.test_steady import origin

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_in_an_open_loop_a_stall_shows_in_every_request_that_was_due_meanwhile() -> None:
    def stall_once(number: int) -> bytes:
        if number == 20:
            time.sleep(0.4)
        return _OK

    with origin(stall_once) as address:
        load = pages.opened(Page(address, "/"), rate=200, connections=16, seconds=1)

    assert len([it for it in load.milliseconds if it > 100]) > 40
    assert load.failed == 0


def test_in_a_closed_loop_nobody_asks_while_waiting() -> None:
    def slowly(number: int) -> bytes:
        time.sleep(0.02)
        return _OK

    with origin(slowly) as address:
        load = pages.closed(Page(address, "/"), connections=2, seconds=0.4)

    assert 10 <= len(load.milliseconds) <= 22  # the origin answers one after the other
    assert load.failed == 0


def test_a_page_that_lacks_a_part_and_a_connection_that_breaks_are_failures() -> None:
    with origin(lambda number: _OK if number % 2 else b"") as address:
        load = pages.opened(Page(address, "/", (b"hello",)), rate=50, connections=1, seconds=0.4)
    with origin(lambda number: _OK) as address:
        incomplete = pages.opened(Page(address, "/", (b"good bye",)), rate=50, connections=1, seconds=0.2)

    assert (len(load.milliseconds), load.failed) == (10, 10)
    assert (len(incomplete.milliseconds), incomplete.failed) == (0, 10)
