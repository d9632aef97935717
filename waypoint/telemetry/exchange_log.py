"""Which exchanges the access log has a line of, and how it is written.

Errors and slow exchanges always have a line; of all others a share does, if a setting says so. A Telemetry object may
replace the format and add a condition.
"""

from random import random

from l4.telemetry.access_log import AccessLog
from waypoint.telemetry.access_json import default_json
from waypoint.telemetry.access_line import default_line
from waypoint.telemetry.log_format import LogFormat
from waypoint.telemetry.log_settings import AccessLogSettings
from waypoint.telemetry.record import ExchangeRecord


class ExchangeLog:
    """Raises InvalidFormat if the settings' format cannot be understood."""

    __slots__ = ("_format", "_is_json", "_log", "_share", "_slow_ms")

    def __init__(self, log: AccessLog, settings: AccessLogSettings) -> None:
        self._log = log
        self._share = settings.access_log_share
        self._slow_ms = settings.access_log_slow_seconds * 1000
        self._is_json = settings.access_log_encoding == "JSON"
        self._format = LogFormat.of_text(settings.access_log_format) if settings.access_log_format else None

    def write(self, record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> None:
        """`flags` and `upstream` are what `flags_text` and `upstream_of` return for the record."""
        if self._share < 1.0 and not self._is_kept(record) and random() >= self._share:
            self._log.drops.sampled.value += 1
            return
        rules = record.policy.log if record.policy is not None else None
        if rules is None:
            self._log.write(self._line(record, flags, upstream))
            return
        for rule in rules:
            if rule.condition is None or rule.condition.holds(record):
                form = rule.format
                self._log.write(_encoded(form.line(record)) if form else self._line(record, flags, upstream))

    def _line(self, record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> bytes:
        if self._format is not None:
            return _encoded(self._format.line(record))
        if self._is_json:
            return default_json(record, flags, upstream)
        return default_line(record, flags, upstream)

    def _is_kept(self, record: ExchangeRecord) -> bool:
        has_failed = record.status >= 500 or (not record.status and bool(record.flags or record.method))
        return has_failed or record.duration_ms >= self._slow_ms


def _encoded(line: str) -> bytes:
    return line.encode("latin-1", "backslashreplace")
