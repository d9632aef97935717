import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l4.telemetry.access_log import AccessLog
from policies.cel import Expression
from policies.telemetry import LogRule, TelemetryPolicy
from tests.waypoint.telemetry.test_exchanges import ANSWERED
from waypoint.telemetry.attributes import ATTRIBUTES
from waypoint.telemetry.exchange_log import ExchangeLog
from waypoint.telemetry.log_format import LogFormat
from waypoint.telemetry.log_operators import InvalidFormat
from waypoint.telemetry.log_settings import AccessLogSettings
from waypoint.telemetry.record import ExchangeRecord


def logged(folder: Path, *records: ExchangeRecord, **settings: Any) -> list[str]:
    file = AccessLog(str(folder / "access.log"))
    log = ExchangeLog(file, AccessLogSettings(**settings))
    for record in records:
        log.write(record, "-", ("-", "-"))
    file.close()
    left_out = file.drops.sampled.value
    lines = (folder / "access.log").read_text().splitlines()
    assert left_out == len(records) - len(lines) or settings.get("access_log_share", 1.0) == 1.0
    return lines


def test_errors_and_slow_exchanges_are_logged_whatever_the_share_is(tmp_path: Path) -> None:
    records = [
        ANSWERED,
        replace(ANSWERED, status=503),
        replace(ANSWERED, status=404),
        replace(ANSWERED, status=0),
        replace(ANSWERED, duration_ms=600),
    ]

    lines = logged(
        tmp_path,
        *records,
        access_log_share=0.0,
        access_log_slow_seconds=0.5,
        access_log_format="%RESPONSE_CODE% %DURATION%",
    )

    assert lines == ["503 3", "0 3", "200 600"]


def test_of_the_rest_a_share_is_logged(tmp_path: Path) -> None:
    lines = logged(tmp_path, *[ANSWERED] * 2000, access_log_share=0.25)

    assert 350 < len(lines) < 650


def test_the_settings_choose_the_format(tmp_path: Path) -> None:
    assert json.loads(logged(tmp_path, ANSWERED, access_log_encoding="JSON")[0])["response_code"] == 200


def test_a_policy_chooses_format_and_condition(tmp_path: Path) -> None:
    failed = Expression.compile("response.code >= 500", ATTRIBUTES)
    rules = (LogRule(None, failed), LogRule(LogFormat.of_text("own %RESPONSE_CODE%"), failed))
    policy = TelemetryPolicy(log=rules)

    lines = logged(
        tmp_path,
        replace(ANSWERED, policy=policy),
        replace(ANSWERED, policy=policy, status=503),
        replace(ANSWERED, policy=TelemetryPolicy(log=())),
        access_log_format="%RESPONSE_CODE%",
    )

    assert lines == ["503", "own 503"]


def test_a_format_that_cannot_be_understood_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidFormat):
        logged(tmp_path, access_log_format="%NOBODY%")
