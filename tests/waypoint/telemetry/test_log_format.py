import json
from dataclasses import replace

import pytest

from policies.verdict import ResponseFlag
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from waypoint.telemetry.access_line import default_line, upstream_of
from waypoint.telemetry.log_format import ISTIO_JSON, LogFormat
from waypoint.telemetry.log_operators import InvalidFormat
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
    ("text", "words"),
    [
        ("a %RESPONSE_COD%", "%RESPONSE_COD% at character 3: there is no such operator"),
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
