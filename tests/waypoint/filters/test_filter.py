"""The seam itself: what a filter may do to a request and to its response, through a real waypoint, and how it ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from l4.discovery.workload import AppProtocol
from l4.hbone.errors import TunnelReset
from policies import filters as ordered
from policies.attributes import ClusterName, Headers, Peer, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.filters import Filters
from policies.opaque import OpaqueTable
from policies.rewrite import HeaderEdit
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from tests.kit.aio import run
from tests.kit.mesh import Mesh, settled
from tests.kit.origin import Origin, answering, hang, origin, scripted
from tests.waypoint.test_exchange import Setting, body, status
from tests.waypoint.test_websocket import UPGRADE
from waypoint.admission.decide import decide
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.errors import PayloadTooLarge
from waypoint.filters.filter import Act, Answer, Filter, Filtering, Waiting, waits
from waypoint.filters.live import FILTERS, LiveFilters
from waypoint.filters.part import Part
from waypoint.telemetry.record import ExchangeRecord

UPPER = HeaderEdit(set=((b"x-case", b"upper"),))


@dataclass(frozen=True)
class Probe:
    """What the filter below does at which moment."""

    name: str = "probe"
    at_head: Callable[[Filtering], Act | None] = lambda request: None
    part: type[Part] | None = None


class Probing(Filter[Probe]):
    types = (Probe,)

    def request_head(self, policy: Probe, request: Filtering) -> Act | None:
        if policy.part is not None:
            request.attach(policy.part())
        return policy.at_head(request)


@asynccontextmanager
async def probed(
    folder: Path, *probes: Probe, monkeypatch: pytest.MonkeyPatch, handler: object = None
) -> AsyncIterator[tuple[Mesh, str, Origin]]:
    """A waypoint whose first filter is the probe, as if it had been added to the lists of filters."""
    monkeypatch.setitem(ordered.ORDER, Probe, "probe")
    at = Setting()
    async with origin(at.pod, handler or answering()) as seen, at.mesh(folder) as it:  # type: ignore[arg-type]
        it.path.filters.by_type[Probe] = Probing()
        it.rule(*probes)
        yield it, at.authority, seen


async def post(it: Mesh, authority: str, *chunks: bytes) -> bytes:
    reader, writer = await it.tunnel(authority)
    size = sum(map(len, chunks))
    writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
    for chunk in chunks:
        writer.write(chunk)
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    return answer


class Shout(Part):
    changes_request_body = True
    changes_response_body = True

    def request_body(self, data: bytes) -> bytes:
        return data.upper()

    def request_end(self, trailers: Headers) -> bytes:
        return b"!"

    def response_body(self, data: bytes) -> bytes:
        return data.upper()

    def response_end(self, trailers: Headers) -> bytes:
        return b"!!"


def test_a_filter_changes_both_bodies_and_their_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def reads_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async def scenario() -> None:
        handler = scripted(reads_chunks)
        async with probed(tmp_path, Probe(part=Shout), monkeypatch=monkeypatch, handler=handler) as it:
            mesh, authority, seen = it
            answer = await post(mesh, authority, b"hel", b"lo")

        assert status(answer) == 200
        assert b"content-length" not in answer
        assert _joined(body(answer)) == b"HELLO!!"
        assert b"content-length" not in seen.heads[0]
        assert _joined(seen.heads[1]) == b"HELLO!"

    run(scenario())


def test_what_follows_an_upgrade_is_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        upgraded = (
            b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        )
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % upgraded)
        while data := await reader.read(100):
            writer.write(data)

    async def scenario() -> bytes:
        async with probed(tmp_path, Probe(part=Shout), monkeypatch=monkeypatch, handler=echo) as (it, authority, _):
            reader, writer = await it.tunnel(authority)
            writer.write(UPGRADE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert status(head) == 101
            writer.write(b"hello")
            echoed = await reader.readexactly(5)
            writer.close()
            return echoed

    assert run(scenario()) == b"hello"


def _joined(chunks: bytes) -> bytes:
    return b"".join(chunks.split(b"\r\n")[1::2])


class AtMostTen(Part):
    """Refuses what is longer; the length says nothing, because it looks at what comes."""

    def __init__(self) -> None:
        self.size = 0

    def request_body(self, data: bytes) -> bytes:
        self.size += len(data)
        if self.size > 10:
            raise PayloadTooLarge
        return data


def test_a_filter_refuses_a_body_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with probed(tmp_path, Probe(part=AtMostTen), monkeypatch=monkeypatch, handler=scripted(hang)) as it:
            mesh, authority, _ = it
            answer = await asyncio.wait_for(post(mesh, authority, b"short", b"and then too much"), 5)
            await settled(lambda: " 413 " in mesh.access_log)

        assert status(answer) == 413

    run(scenario())


class RefusesResponses(Part):
    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        raise PayloadTooLarge


class CutsResponses(Part):
    def response_body(self, data: bytes) -> bytes:
        raise PayloadTooLarge


def test_a_filter_refuses_a_response_whose_head_has_not_been_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with probed(tmp_path, Probe(part=RefusesResponses), monkeypatch=monkeypatch) as (it, authority, _):
            answer = await asyncio.wait_for(it.get(authority), 5)

        assert status(answer) == 413

    run(scenario())


def test_a_response_that_a_filter_refuses_too_late_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with probed(tmp_path, Probe(part=CutsResponses), monkeypatch=monkeypatch) as (it, authority, _):
            with pytest.raises(TunnelReset):
                await asyncio.wait_for(it.get(authority), 5)
            await settled(lambda: " 200 " in it.access_log)

    run(scenario())


class _Broken(Exception):
    """What no filter should do, and some day one does."""


def _fail(*_: object) -> None:
    raise _Broken


ENDS: list[int] = []


class Ends(Part):
    def end(self, record: ExchangeRecord) -> None:
        ENDS.append(record.status)


def _broken_at(hook: str) -> type[Part]:
    return type("Broken", (Ends,), {hook: _fail})


def _fails_to_act(request: Filtering) -> Act:
    return _fail


def _fails_to_wait(request: Filtering) -> Act:
    async def wait(_: Waiting) -> None:
        raise _Broken

    return waits(wait)


BROKEN = {
    "deciding": Probe(at_head=_fail, part=Ends),  # type: ignore[arg-type]
    "acting": Probe(at_head=_fails_to_act, part=Ends),
    "waiting": Probe(at_head=_fails_to_wait, part=Ends),
    **{
        hook: Probe(part=_broken_at(hook))
        for hook in ("forwarded", "picker", "request_body", "request_end", "response_head")
    },
}


@pytest.mark.parametrize("moment", list(BROKEN))
def test_a_filter_that_fails_is_one_answer_and_ends_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    ENDS.clear()

    async def scenario() -> None:
        async with probed(tmp_path, BROKEN[moment], monkeypatch=monkeypatch) as (it, authority, _):
            answer = await asyncio.wait_for(post(it, authority, b"hello"), 5)
            await settled(lambda: "internal_failure" in it.access_log)
            again = await asyncio.wait_for(post(it, authority, b"hello"), 5)

        assert (status(answer), status(again)) == (500, 500)
        assert it.access_log.count("LR internal_failure") == 2

    with caplog.at_level(logging.ERROR):
        run(scenario())

    assert ([500, 500] if moment != "deciding" else []) == ENDS  # whoever fails to decide has no way through filters
    assert len([record for record in caplog.records if record.exc_info and record.exc_info[0] is _Broken]) == 2


def test_a_part_that_fails_at_the_end_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ENDS.clear()
    broken = type("Broken", (Part,), {"end": _fail})

    async def scenario() -> None:
        probes = Probe(part=broken), Probe("second", part=Ends)
        async with probed(tmp_path, *probes, monkeypatch=monkeypatch) as (it, authority, _):
            assert status(await it.get(authority)) == 200
            await settled(lambda: " 200 " in it.access_log)

    run(scenario())

    assert ENDS == [200]
    assert "Broken failed at the end of an exchange" in caplog.text


def test_a_filter_waits_with_the_body_and_answers_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(request: Filtering) -> Act:
        async def wait(waiting: Waiting) -> None:
            told = await waiting.told_of_body(100, takes_part=False)
            await asyncio.sleep(0)
            request.answer(Answer(202, [(b"x-told", told or b"-")], "probed", b"taken"))

        return waits(wait)

    async def scenario() -> None:
        async with probed(tmp_path, Probe(at_head=ask), monkeypatch=monkeypatch) as (it, authority, seen):
            answer = await asyncio.wait_for(post(it, authority, b"hel", b"lo"), 5)
            await settled(lambda: "probed" in it.access_log)

        assert (status(answer), body(answer), seen.heads) == (202, b"taken", [])
        assert b"\r\nx-told: hello\r\n" in answer

    run(scenario())


def _marking(name: bytes) -> type[Part]:
    def response_head(self: Part, head: ResponseHead, endpoint: Endpoint | None) -> None:
        head.headers.append((b"x-met", name))

    return type("Marking", (Part,), {"response_head": response_head})


def test_responses_meet_filters_in_the_reverse_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        probes = Probe("first", part=_marking(b"first")), Probe("second", part=_marking(b"second"))
        async with probed(tmp_path, *probes, monkeypatch=monkeypatch) as (it, authority, _):
            answer = await it.get(authority)

        assert answer.index(b"x-met: second") < answer.index(b"x-met: first")

    run(scenario())


# -- without a waypoint --------------------------------------------------------------------------------------------


def destination(rule: Rule) -> Destination:
    return Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, RouteTable([Route(Match(), rule)]), OpaqueTable())


def test_a_rule_without_policies_pays_nothing() -> None:
    rule = Rule("rule", (WeightedBackend(ClusterName("one")),), Filters(request_edit=UPPER))
    head = RequestHead(b"GET", b"app", b"/", b"", [])

    assert decide(destination(rule), Peer(None, "127.0.0.1", 1), head, lambda _: 0.5).filtering is None


def test_every_policy_has_a_filter_and_every_filter_its_place() -> None:
    types = [policy for it in FILTERS for policy in it.types]

    assert len(types) == len(set(types))
    assert set(types) == set(ordered.ORDER)
    assert set(LiveFilters().by_type) == set(types)


def test_a_name_for_an_edit_is_hidden_from_trailers_of_its_direction() -> None:
    head = RequestHead(b"GET", b"app", b"/", b"", [])
    request = Filtering({}, destination(Rule("rule", ())), Peer(None, "127.0.0.1", 1), head, lambda _: 0.5, 0.0)

    request.edit(UPPER)
    request.edit_response(ResponseHead(200, []), HeaderEdit(set=((b"x-other", b"1"),)))

    assert request.replaced_names(of_response=False) == {b"x-case"}
    assert request.replaced_names(of_response=True) == {b"x-other"}
