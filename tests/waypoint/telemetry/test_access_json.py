import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Peer
from policies.verdict import ResponseFlag
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from waypoint.telemetry.access_json import default_json
from waypoint.telemetry.access_line import upstream_of
from waypoint.telemetry.log_format import ISTIO_JSON, LogFormat
from waypoint.telemetry.record import ExchangeRecord, flags_text

RECORD = replace(ANSWERED, response_headers=[(b"x-envoy-upstream-service-time", b"2")])


def line(record: ExchangeRecord) -> str:
    return default_json(record, flags_text(record.flags), upstream_of(record.endpoint)).decode()


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, status=503, flags=(ResponseFlag.UPSTREAM_OVERFLOW,), detail="a b", endpoint=None, cluster=None),
        replace(RECORD, endpoint=replace(ENDPOINT, identity=None), upstream_transport_failure_reason='a "b\\'),
        replace(RECORD, upstream_service_time_ms=None, response_headers=[], requested_server_name="ä.example"),
        replace(RECORD, peer=Peer(None, "2001:db8::1", 4), downstream_local=("2001:db8::2", 80)),
        replace(ANSWERED, upstream_service_time_ms=None, request_id=None, authority=None, method=b"", route_name=""),
    ],
)
def test_the_line_is_that_of_istios_labels(record: ExchangeRecord) -> None:
    assert line(record) == LogFormat.of_labels(ISTIO_JSON).line(record)


@given(*([st.binary(max_size=40)] * 4))
def test_no_client_can_forge_a_line_or_a_field(
    target: bytes, agent: bytes, request_id: bytes, authority: bytes
) -> None:
    record = replace(RECORD, original_target=target, user_agent=agent, request_id=request_id, authority=authority)

    text = line(record)

    assert text.isascii()
    assert text.index("\n") == len(text) - 1
    found = json.loads(text)
    assert list(found) == list(ISTIO_JSON)
    texts = [found[it] or "" for it in ("path", "user_agent", "request_id", "authority")]
    assert texts == [it.decode("latin-1") for it in (target, agent, request_id, authority)]
