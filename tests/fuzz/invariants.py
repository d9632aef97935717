"""Properties of every input: checked by generated examples (hypothesis) and by coverage-guided ones.

- Nothing is raised but what the codecs declare; anything else ends the check.
- An input means the same however it is cut; only of two mistakes may the one or the other come first.
- What is forwarded is canonical: read again it is the same, so that the next proxy cannot see another message.
"""

from collections.abc import Iterable
from itertools import pairwise

from l4.http2.engines import Engine
from tests.wire.verdicts import read_frames, read_requests, read_response
from waypoint.errors import BadRequest
from waypoint.http.hygiene import normal_path
from waypoint.http.settings import HttpSettings

ROOMY = HttpSettings(head_bytes=1 << 20, head_fields=1000)
"""For what has been carried once, and may be a little longer in its canonical form."""
METHODS = (b"GET", b"HEAD", b"POST")
NORMALIZATIONS = ("BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """In pieces that are not empty, at these places (modulo its length)."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def check_requests(data: bytes, places: Iterable[int]) -> None:
    whole = read_requests(cut(data, ()))
    pieces = read_requests(cut(data, places))

    assert (pieces.upstream, pieces.opaque) == (whole.upstream, whole.opaque)
    assert [status == 200 for status in pieces.statuses] == [status == 200 for status in whole.statuses]
    if whole.upstream:
        again = read_requests([whole.upstream], ROOMY)
        assert again.upstream == whole.upstream
        assert set(again.statuses) == {200}


def check_response(data: bytes, places: Iterable[int], method: bytes) -> None:
    whole = read_response(cut(data, ()), method=method, closes=True)
    pieces = read_response(cut(data, places), method=method, closes=True)

    assert pieces.is_refused == whole.is_refused
    if whole.is_refused:
        return
    assert pieces == whole
    if whole.seen == "after":
        again = read_response([whole.downstream], method=method, closes=True, settings=ROOMY)
        assert (again.seen, again.downstream) == ("after", whole.downstream)


def check_path(path: bytes) -> None:
    for normalization in NORMALIZATIONS:
        try:
            normal = normal_path(b"/" + path, normalization)
        except BadRequest:
            continue
        assert normal.startswith(b"/")
        assert normal_path(normal, normalization) == normal
        assert not {b"..", b"."} & set(normal.split(b"/"))


def check_frames(data: bytes, places: Iterable[int], *, is_client: bool) -> None:
    verdicts = []
    for engine in Engine:
        whole = read_frames(engine, cut(data, ()), is_client=is_client)
        assert read_frames(engine, cut(data, places), is_client=is_client) == whole
        verdicts.append(whole)
    if not any(verdict.resets or verdict.goaway for verdict in verdicts):
        assert verdicts[0] == verdicts[1]
