"""Every request of the corpus through the codec, cut in every way, and once through the whole mesh."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.wire.application import Application, application, without_added
from tests.wire.corpus import RequestCase, cuts, requests
from tests.wire.verdicts import RequestVerdict, read_requests

CASES = requests()


def expected(case: RequestCase) -> RequestVerdict:
    return RequestVerdict(case.upstream, case.statuses, case.limit, case.opaque)


def test_the_corpus_is_large_and_every_case_has_a_name_of_its_own() -> None:
    names = Counter(case.name for case in CASES)

    assert [name for name, count in names.items() if count > 1] == []
    assert sum(case.is_valid for case in CASES) >= 60
    assert sum(not case.is_valid for case in CASES) >= 110


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_means_the_same_however_it_is_cut(case: RequestCase) -> None:
    for pieces in cuts(case.send):
        assert read_requests(pieces) == expected(case), pieces


def test_a_waypoint_answers_and_forwards_as_the_corpus_says(tmp_path: Path) -> None:
    async def scenario() -> dict[str, RequestVerdict]:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        async with mesh(tmp_path, text, waypoint) as it, application(pod) as app:
            return {case.name: await _sent(case, it, app, f"{vip}:9080") for case in CASES}

    assert run(scenario(), 50) == {case.name: expected(case) for case in CASES}


async def _sent(case: RequestCase, it: Mesh, app: Application, authority: str) -> RequestVerdict:
    """The verdict of a waypoint; the next client's request must be untouched by what this one sent."""
    before = refusals(it)
    reader, writer = await it.tunnel(authority)
    writer.write(case.send)
    writer.write_eof()
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3})", await reader.read())
    writer.close()
    await settled(lambda: it.path.exchanges == 0)
    assert (await it.get(authority, "/next")).startswith(b"HTTP/1.1 200 OK"), case.name
    *whole, following = app.take()
    assert following.startswith(b"GET /next HTTP/1.1\r\nhost: app\r\n"), case.name
    upstream = b"".join(without_added(request, case.upstream) for request in whole)
    limits = refusals(it) - before
    assert sum(limits.values()) <= 1, case.name
    return RequestVerdict(upstream, tuple(map(int, statuses)), "".join(limits), case.opaque)


def refusals(it: Mesh) -> Counter[str]:
    """How often a waypoint has refused something, by the limit."""
    text = it.metrics.render("")[0].decode()
    found = re.findall(r'^pywaypoint_refused_total\{reason="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE)
    return Counter({limit: int(float(count)) for limit, count in found})
