import re
import socket
import time
from dataclasses import replace

import pytest

from policies.verdict import ResponseFlag
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from tests.waypoint.telemetry.test_log_format import RECORD as HEADED
from waypoint.telemetry.log_format import LogFormat
from waypoint.telemetry.log_operators import InvalidFormat, operator
from waypoint.telemetry.record import ExchangeRecord

RECORD = replace(
    HEADED,
    response_trailers=[(b"x-t", b"trail")],
    attempts=2,
    upstream_protocol="HTTP/2",
    request_ms=1.0,
    response_ms=2.25,
)
UNANSWERED = ExchangeRecord(0.0, ANSWERED.peer, ANSWERED.source, ("10.0.0.1", 80), ANSWERED.service)


def line(text: str, record: ExchangeRecord = RECORD) -> str:
    return LogFormat.of_text(text).line(record)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%REQ(X-USER)%", r"ja\x22son\x0a"),
        ("%REQ(X-NONE?X-USER)%", r"ja\x22son\x0a"),
        ("%REQ(X-NONE)%", "-"),
        ("%REQ(USER-AGENT):4%", "curl"),
        ("%RESP(SERVER)%", "istio-envoy"),
        ("%RESP(USER-AGENT)%", "-"),
        ("%REQ(X-NONE?:PATH)%", "/reviews/0?x=1"),
        ("100%% %RESPONSE_CODE%", "100% 200"),
        ("%START_TIME%", "2023-11-14T22:13:20.123Z"),
        ("%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s)%", "2023/11/14 22:13:20.123 1700000000"),
        ("%CEL(source.workload)% %CEL(response.code >= 500)%", "productpage-v1 false"),
        ("%CEL(request.headers['x-none'])%", "-"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/default/sa/productpage"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.244.1.9 9080"),
        ("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "- -"),
        (
            "%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
            f"{ENDPOINT.ip}:{ENDPOINT.port} {ENDPOINT.ip} {ENDPOINT.port}",
        ),
        ("%STREAM_ID:8%", "6ad7bfa0"),
        ("%AUDIT% %DRY_RUN% %TRACE_ID% %SPAN_ID%", "- - - -"),
        ("%TRAILER(X-T)% %TRAILER(X-NONE?X-T)% %TRAILER(X-NONE)% %RESPONSE_TRAILERS_BYTES%", "trail trail - 8"),
        ("%PATH% %PATH(NQ)% %QUERY_PARAMS% %QUERY_PARAM(x)% %QUERY_PARAM(y)%", "/reviews/0?x=1 /reviews/0 x=1 1 -"),
        ("%REQ_WITHOUT_QUERY(:PATH)% %REQ_WITHOUT_QUERY(X-NONE)%", "/reviews/0 -"),
        ("%RESPONSE_FLAGS_LONG% %ACCESS_LOG_TYPE% %UPSTREAM_PROTOCOL%", "- DownstreamEnd HTTP/2"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "1 2 1"),
        ("%COMMON_DURATION(DS_RX_END:US_RX_BEG:us)% %COMMON_DURATION(US_RX_BEG:DS_RX_END:ms)%", "1250 -"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_DIRECT_REMOTE_PORT%", f"2 {ANSWERED.peer.port}"),
        ("%UPSTREAM_PEER_URI_SAN%", str(ENDPOINT.identity)),
        ("%HOSTNAME%", socket.gethostname()),
    ],
)
def test_operators_have_envoys_meaning(text: str, expected: str) -> None:
    assert line(text) == f"{expected}\n"


def test_a_grpc_status_has_a_name() -> None:
    record = replace(RECORD, is_grpc=True, grpc_status="14")

    assert line("%GRPC_STATUS% %GRPC_STATUS(NUMBER)%", record) == "Unavailable 14\n"


@pytest.mark.parametrize("argument", ["", "CAMEL_STRING", "SNAKE_STRING", "NUMBER"])
def test_a_grpc_status_has_each_of_envoys_forms(argument: str) -> None:
    read = operator("GRPC_STATUS", argument)

    assert read(RECORD) is None
    assert (
        read(replace(RECORD, grpc_status="4"))
        == {
            "": "DeadlineExceeded",
            "CAMEL_STRING": "DeadlineExceeded",
            "SNAKE_STRING": "DEADLINE_EXCEEDED",
            "NUMBER": 4,
        }[argument]
    )
    assert read(replace(RECORD, grpc_status="99")) == read(replace(RECORD, grpc_status="2"))


def test_each_flag_has_a_long_name() -> None:
    text = line("%RESPONSE_FLAGS_LONG%", replace(RECORD, flags=tuple(ResponseFlag)))

    assert len(set(text.strip().split(","))) == len(ResponseFlag)
    assert text.startswith("NoHealthyUpstream,UpstreamConnectionFailure,")


def test_what_has_not_happened_is_missing() -> None:
    text = "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %UPSTREAM_PROTOCOL% %ACCESS_LOG_TYPE%"

    assert line(text, UNANSWERED) == "- - - - TcpConnectionEnd\n"
    assert line("%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES%", UNANSWERED) == "0 0\n"
    assert line("%UPSTREAM_PEER_URI_SAN% %PATH% %QUERY_PARAM(a)%", UNANSWERED) == "- - -\n"


def test_names_and_values_of_headers_are_counted_as_by_envoy() -> None:
    record = replace(RECORD, headers=[(b"a", b"bcd")], response_headers=[(b"server", b"x")])
    own = sum(
        map(len, (b":method", RECORD.method, b":path", RECORD.original_target, b":authority", b":scheme", b"http"))
    )

    assert line("%REQUEST_HEADERS_BYTES%", record) == f"{own + len(RECORD.authority or b'') + 4}\n"
    assert line("%RESPONSE_HEADERS_BYTES%", record) == f"{len(':status200') + 7}\n"


def test_a_query_is_decoded_where_that_is_asked_for() -> None:
    record = replace(RECORD, original_target=b"/?a=%41%20%22&b%20c=%0a&a=2")

    assert line("%QUERY_PARAMS(ORIG)%", record) == "a=%41%20%22&b%20c=%0a&a=2\n"
    assert line("%QUERY_PARAMS(DECODED)%", record) == "a=A%20\\x22&b%20c=%0a&a=2\n"
    assert line("%QUERY_PARAM(a)%", record) == "A \\x22\n"
    assert line("%QUERY_PARAM(b c)%", record) == "\\x0a\n"


def test_the_time_of_the_line_and_the_local_time_have_formats_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert line("%START_TIME_LOCAL%") == "2023-11-15T00:13:20.123+0200\n"
        assert line("%START_TIME_LOCAL(%H %z)%") == "00 +0200\n"
        assert line("%EMIT_TIME_LOCAL(%z)%") == "+0200\n"
    finally:
        monkeypatch.undo()
        time.tzset()
    before = int(time.time())
    assert before <= int(line("%EMIT_TIME(%s)%")) <= before + 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\n", line("%EMIT_TIME%"))


def test_each_line_has_a_unique_id() -> None:
    read = LogFormat.of_text("%UNIQUE_ID%")

    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n", read.line(RECORD))
    assert read.line(RECORD) != read.line(RECORD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%PATH(NQ:ORIG)%", "WQ or NQ"),
        ("%QUERY_PARAMS(PATH)%", "ORIG or DECODED"),
        ("%QUERY_PARAM%", "a parameter's name"),
        (
            "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)%",
            "two of DS_RX_BEG, DS_RX_END, US_RX_BEG, DS_TX_END and one of ms",
        ),
        ("%HOSTNAME(a)%", "takes no argument"),
        ("%DYNAMIC_METADATA(a)%", "CEL shows attributes"),
        ("%FILTER_STATE(a:PLAIN)%", "CEL shows attributes"),
        ("%DOWNSTREAM_WIRE_BYTES_SENT%", "BYTES_SENT"),
        ("%DOWNSTREAM_TLS_VERSION%", "DOWNSTREAM_PEER_URI_SAN"),
        ("%UPSTREAM_LOCAL_PORT%", "no TLS session or socket of their own"),
        ("%CONNECTION_ID%", "DOWNSTREAM_REMOTE_ADDRESS"),
        ("%UPSTREAM_HOSTS_ATTEMPTED%", "UPSTREAM_HOST shows the last endpoint"),
        ("%REQUEST_TX_DURATION%", "REQUEST_DURATION"),
        ("%VIRTUAL_CLUSTER_NAME%", "a waypoint has none"),
        ("%LOCAL_REPLY_BODY%", "RESPONSE_CODE_DETAILS"),
        ("%ENVIRONMENT(TOKEN)%", "variables hold secrets"),
    ],
)
def test_an_operator_without_a_meaning_is_told_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidFormat, match="at character 1: ") as caught:
        LogFormat.of_text(text)

    assert words in str(caught.value)
