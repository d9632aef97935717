from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.attributes import Peer
from tests.waypoint.telemetry.test_exchanges import ANSWERED
from tests.waypoint.telemetry.test_log_format import ENVOYS
from waypoint.telemetry import access_line
from waypoint.telemetry.access_json import default_json
from waypoint.telemetry.access_line import default_line, upstream_of
from waypoint.telemetry.log_format import ISTIO_JSON, LogFormat
from waypoint.telemetry.record import ExchangeRecord, flags_text

RECORD = replace(ANSWERED, response_headers=[(b"x-envoy-upstream-service-time", b"2")])
TEXT, JSON = LogFormat.of_text(ENVOYS), LogFormat.of_labels(ISTIO_JSON)

values = st.binary(max_size=40) | st.sampled_from([b"%s", b"%", b"100%%", b"\x00b", b"\x00", b"%(a)d"])
names = st.text(st.characters(max_codepoint=255), max_size=20) | st.sampled_from(["%d", "\x00b", "a b"])


def lines(record: ExchangeRecord) -> tuple[str, str]:
    about = record, flags_text(record.flags), upstream_of(record.endpoint)
    return default_line(*about).decode(), default_json(*about).decode()


@given(st.tuples(values, values, values, values, values, values), st.tuples(names, names))
@example((b"\x7f",) * 6, ("", ""))
def test_whatever_a_record_has_its_lines_are_those_of_the_formats(
    given_values: tuple[bytes, ...], given_names: tuple[str, ...]
) -> None:
    method, target, forwarded_for, user_agent, request_id, authority = given_values
    detail, failure = given_names
    record = replace(
        RECORD,
        method=method,
        original_target=target,
        x_forwarded_for=forwarded_for,
        user_agent=user_agent,
        request_id=request_id,
        authority=authority,
        detail=detail,
        upstream_transport_failure_reason=failure,
    )

    for _ in range(2):  # the second time, the templates are known
        text, json = lines(record)

        assert text.isascii()
        assert text.index("\n") == len(text) - 1
        assert json == JSON.line(record)
        if failure.isascii() and detail.isascii():  # the format escapes other letters of ours in another way
            assert text == TEXT.line(record)


@pytest.mark.parametrize("milliseconds", [0.0, 0.9, 3.7, 999.999, 86_400_000.5])
def test_a_duration_has_whole_milliseconds(milliseconds: float) -> None:
    text, json = lines(replace(RECORD, duration_ms=milliseconds))

    assert f" 0 325 {int(milliseconds)} 2 " in text
    assert f'"duration":{int(milliseconds)},' in json


def test_templates_are_bounded_and_those_of_long_heads_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_line, "MAX_TEMPLATES", 3)
    written = []
    templates = access_line.Templates(lambda of: written.append(of) or "a\0b\0c")  # type: ignore[func-returns-value]
    long = replace(RECORD, user_agent=b"x" * 2000)
    records = [replace(RECORD, peer=Peer(None, "::1", port)) for port in range(4)]

    for record in (*records[:3], *records[:3], records[3], records[3], records[0], long, long):
        assert templates.find(record, "-", ("-", "-")) == [b"a", b"b", b"c"]

    ports = [it[16] for it in written[:5]]
    assert ports == [0, 1, 2, 3, 0]
    assert len(written) == 7
