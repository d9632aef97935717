import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import ClusterName, Headers, Identity, Peer, RequestHead
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, route, status
from waypoint.telemetry.recorder import (
    MAX_LINE_BYTES,
    CannotRecord,
    RecordedHead,
    Recorder,
    RecorderSettings,
    Taken,
)
from waypoint.telemetry.redaction import MARK

PEER = Peer(Identity("cluster.local", "default", "client"), "10.0.0.9", 1234)
AUTHORITY = ("10.96.0.1", 9080)


def head(target: bytes = b"/", *headers: tuple[bytes, bytes], overrides: Headers | None = None) -> RequestHead:
    path, question, query = target.partition(b"?")
    return RequestHead(b"GET", b"app", path, query, list(headers), bool(question), overrides=overrides)


def write(recorder: Recorder, taken: Taken | None) -> None:
    assert taken is not None
    cluster = ClusterName("inbound-vip|9080|http|app.default.svc.cluster.local")
    recorder.write(taken, 1.25, AUTHORITY, "app.default.svc.cluster.local", PEER, ("canary", cluster, 0), "abc")


def recorded(folder: Path, *heads: RequestHead, settings: RecorderSettings | None = None) -> list[str]:
    recorder = Recorder(str(folder / "heads"), settings or RecorderSettings())
    for it in heads:
        write(recorder, recorder.take(it))
    recorder.close()
    return (folder / "heads").read_text().splitlines()


def test_a_line_has_the_head_and_what_was_decided(tmp_path: Path) -> None:
    (line,) = recorded(tmp_path, head(b"/a?b=c", (b"x-a", b"\xe9")))

    assert json.loads(line) == {
        "time": 1.25,
        "destination": "10.96.0.1:9080",
        "service": "app.default.svc.cluster.local",
        "peer": "spiffe://cluster.local/ns/default/sa/client",
        "method": "GET",
        "authority": "app",
        "target": "/a?b=c",
        "headers": [["x-a", "é"]],
        "version": "abc",
        "route": "canary",
        "cluster": "inbound-vip|9080|http|app.default.svc.cluster.local",
    }


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"set-cookie",
        b"x-api-key",
        b"apikey",
        b"x-amz-security-token",
        b"x-csrf-token",
        b"client-secret",
        b"x-password",
        b"x-auth",
        b"x-user-credentials",
        b"x-session-id",
        b"x-forwarded-client-cert",
    ],
)
def test_values_of_headers_that_sound_like_credentials_are_left_out(tmp_path: Path, name: bytes) -> None:
    (line,) = recorded(tmp_path, head(b"/", (name, b"hunter2")))

    assert "hunter2" not in line
    assert json.loads(line)["headers"] == [[name.decode(), MARK.decode()]]


@pytest.mark.parametrize("name", [b"x-author", b"content-type", b"x-request-id", b"x-forwarded-for", b"end-user"])
def test_values_of_other_headers_stay(tmp_path: Path, name: bytes) -> None:
    (line,) = recorded(tmp_path, head(b"/", (name, b"hunter2")))

    assert "hunter2" in line


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"a=1&token=hunter2&b", "a=1&token=(redacted)&b"),
        (b"access%5Ftoken=hunter2", "access%5Ftoken=(redacted)"),
        (b"Code=hunter2&q=1", "Code=(redacted)&q=1"),
        (b"token=hunter2&token=hunter2", "token=(redacted)&token=(redacted)"),
        (b"token", "token"),
        (b"", ""),
    ],
)
def test_values_of_query_parameters_that_sound_like_credentials_are_left_out(
    tmp_path: Path, query: bytes, expected: str
) -> None:
    (line,) = recorded(tmp_path, head(b"/x?" + query))

    assert json.loads(line)["target"] == f"/x?{expected}"


def test_the_query_of_the_page_before_is_left_out(tmp_path: Path) -> None:
    (line,) = recorded(tmp_path, head(b"/", (b"referer", b"https://a.example/b?token=hunter2#c")))

    assert json.loads(line)["headers"] == [["referer", "https://a.example/b?(redacted)"]]


def test_a_setting_adds_names(tmp_path: Path) -> None:
    settings = RecorderSettings(record_redacted_names="X-Patient, iban")

    (line,) = recorded(tmp_path, head(b"/?IBAN=hunter2", (b"x-patient", b"hunter2")), settings=settings)

    assert "hunter2" not in line


def texts(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


NAMES = st.sampled_from([b"a", b"b", b"x-c"])
TEXTS = st.binary(max_size=8)


@given(
    st.binary(min_size=1, max_size=8).map(lambda it: b"/" + it.replace(b"?", b"")),
    st.none() | st.lists(st.tuples(NAMES, st.binary(max_size=5).map(lambda it: it.replace(b"&", b""))), max_size=3),
    st.lists(st.tuples(NAMES, TEXTS), max_size=3),
    st.none() | st.lists(st.tuples(NAMES, TEXTS), max_size=2),
)
def test_what_is_not_redacted_comes_back_as_it_was(
    path: bytes, query: list[tuple[bytes, bytes]] | None, headers: Headers, overrides: Headers | None
) -> None:
    text = None if query is None else b"&".join(b"%b=%b" % pair for pair in query)
    it = RequestHead(b"PUT", b"\xff.example", path, text or b"", headers, text is not None, overrides=overrides)

    asked = None if overrides is None else texts(overrides)
    target = it.target.decode("latin-1")
    line = RecordedHead(0.0, "", "", "", "PUT", "\xff.example", target, texts(headers), "", overrides=asked)

    assert line.head == it


def test_one_in_so_many_is_taken(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "heads"), RecorderSettings(record_one_in=10))

    taken = sum(recorder.take(head()) is not None for _ in range(10_000))

    recorder.close()
    assert 700 < taken < 1300


def test_a_head_that_is_too_large_for_a_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = recorded(tmp_path, head(b"/" + b"x" * MAX_LINE_BYTES), head(b"/small"))

    assert [json.loads(line)["target"] for line in lines] == ["/small"]
    assert "1 request heads were not recorded" in caplog.text


def test_a_file_that_cannot_be_opened_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotRecord, match=r"cannot be recorded in .*: No such file"):
        Recorder(str(tmp_path / "nowhere" / "heads"), RecorderSettings())


def test_a_mesh_records_what_it_decided_before_the_head_was_edited(tmp_path: Path) -> None:
    rules = route(
        "{name: edited, matches: [{path: {value: /edit}}], backendRefs: [{name: app, port: 9080}], filters: "
        "[{type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]}"
    )

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, rules) as it:
            it.path.recorder = recorder = Recorder(str(tmp_path / "heads"), RecorderSettings())
            answers = [await it.get(at.authority, path, "Authorization: hunter2\r\n") for path in ("/edit?a", "/other")]
            await settled(lambda: it.path.exchanges == 0)
            recorder.close()

        assert [status(answer) for answer in answers] == [200, 404]
        text = (tmp_path / "heads").read_text()
        assert "hunter2" not in text
        forwarded, refused = map(json.loads, text.splitlines())
        assert (forwarded["target"], forwarded["authority"], forwarded["route"]) == ("/edit?a", "app", "edited")
        assert forwarded["cluster"] == "inbound-vip|9080|http|app.default.svc.cluster.local"
        assert forwarded["destination"] == at.authority
        assert forwarded["service"] == "app.default.svc.cluster.local"
        assert (refused["status"], "route" in refused, "cluster" in refused) == (404, False, False)
        assert "x-request-id" in dict(refused["headers"])

    run(scenario())
