import json
from dataclasses import replace

import pytest

from policies.verdict import ResponseFlag
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from waypoint.telemetry.access_line import default_line, upstream_of
from waypoint.telemetry.log_format import ISTIO_JSON, InvalidFormat, LogFormat
from waypoint.telemetry.record import ExchangeRecord, flags_text

ENVOYS = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
RECORD = replace(
    ANSWERED,
    headers=[
        (b"user-agent", b"curl/8.0"),
        (b"x-request-id", b"6ad7bfa0-1111-4222-8333-944444444444"),
        (b"x-user", b'ja"son\n'),
    ],
    response_headers=[(b"x-envoy-upstream-service-time", b"2"), (b"server", b"istio-envoy")],
)


def line(text: str, record: ExchangeRecord = RECORD) -> str:
    return LogFormat.of_text(text).line(record)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, status=503, flags=(ResponseFlag.UPSTREAM_OVERFLOW,), detail="a b", endpoint=None, cluster=None),
        replace(RECORD, endpoint=replace(ENDPOINT, identity=None), upstream_transport_failure_reason='a "b'),
    ],
)
def test_istios_format_string_gives_the_default_line(record: ExchangeRecord) -> None:
    assert line(ENVOYS, record) == default_line(record, flags_text(record.flags), upstream_of(record.endpoint)).decode()


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
        ("%TRAILER(a)%", "-"),
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
        ("%AUDIT% %DRY_RUN% %TRACE_ID%", "- - -"),
    ],
)
def test_operators_have_envoys_meaning(text: str, expected: str) -> None:
    assert line(text) == f"{expected}\n"


def test_a_grpc_status_has_a_name() -> None:
    record = replace(RECORD, is_grpc=True, grpc_status="14")

    assert line("%GRPC_STATUS% %GRPC_STATUS(NUMBER)%", record) == "Unavailable 14\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a %RESPONSE_COD%", "%RESPONSE_COD% at character 3 is no operator"),
        ("50% of %DURATION%", "at character 3: '% of %DURATION%' is no operator"),
        ("%REQ%", "%REQ% at character 1: its argument"),
        ("%DURATION(ms)%", "takes no argument"),
        ("%CEL(request.hots)%", "%CEL% at character 1: at character 1: there is no attribute 'request.hots'"),
        ("%GRPC_STATUS(SNAKE)%", "CAMEL_STRING"),
        ("a" * 20_000, "longer than"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidFormat) as caught:
        LogFormat.of_text(text)

    assert words in str(caught.value)


def test_istios_json_has_typed_values() -> None:
    found = json.loads(LogFormat.of_labels(ISTIO_JSON).line(RECORD))

    assert list(found) == list(ISTIO_JSON)
    assert found["response_code"] == 200
    assert found["duration"] == 3
    assert found["method"] == "GET"
    assert found["path"] == "/reviews/0?x=1"
    assert found["upstream_service_time"] == "2"
    assert found["x_forwarded_for"] is None
    assert found["upstream_host"] == "envoy://connect_originate/10.244.1.12:9080"


def test_json_has_what_the_labels_say() -> None:
    labels = {"user": "%REQ(X-USER)%", "both": "%PROTOCOL% %ROUTE_NAME%", "more": {"code": "%RESPONSE_CODE%"}, "n": 1}
    none = {"none": "%REQ(X-NONE)%"}

    assert json.loads(LogFormat.of_labels(labels | none).line(RECORD)) == {
        "user": 'ja"son\n',
        "both": "HTTP/1.1 default",
        "more": {"code": 200},
        "n": 1,
        "none": None,
    }
    assert json.loads(LogFormat.of_labels(none, omits_empty=True).line(RECORD)) == {}
    foreign = replace(RECORD, headers=[(b"x-user", "jürgen".encode())])
    line = LogFormat.of_labels({"a": "%REQ(X-USER)%"}).line(foreign)
    assert line.isascii()
    assert json.loads(line) == {"a": "jürgen".encode().decode("latin-1")}


def test_a_bad_label_is_named() -> None:
    with pytest.raises(InvalidFormat, match=r"^user: "):
        LogFormat.of_labels({"user": "%USER%"})
