"""Which exchanges the access log has a line of, and how it is written.

Errors and slow exchanges always have a line; of all others a share does, if a setting says so. A Telemetry object may
replace the format and add a condition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random

from l4.config.settings import Section, setting
from l4.telemetry.access_log import AccessLog
from waypoint.telemetry.access_json import default_json
from waypoint.telemetry.access_line import default_line
from waypoint.telemetry.log_format import LogFormat
from waypoint.telemetry.record import ExchangeRecord

_Line = Callable[[ExchangeRecord, str, tuple[str, str]], str]


@dataclass(frozen=True, slots=True)
class AccessLogSettings(Section):
    title = "Access log"

    access_log_encoding: str = setting("TEXT", choices=("TEXT", "JSON"))
    """TEXT: a line in Envoy's format. JSON: an object with Istio's fields."""
    access_log_format: str = ""
    """A format string of Envoy's, such as `%START_TIME% %RESPONSE_CODE%`, in place of the default format."""
    access_log_share: float = setting(1.0, least=0, most=1)
    """Share of the exchanges that are logged, by chance. Those that failed (no answer, or a status 5xx) or were slow
    always are. What is left out counts as `sampled` in `pywaypoint_log_lines_dropped_total`."""
    access_log_slow_seconds: float = 1.0
    """Duration from which an exchange is slow, and logged whatever the share is."""


class ExchangeLog:
    """Raises InvalidFormat if the settings' format cannot be understood."""

    __slots__ = ("_line", "_log", "_share", "_slow_ms")

    def __init__(self, log: AccessLog, settings: AccessLogSettings) -> None:
        self._log = log
        self._share = settings.access_log_share
        self._slow_ms = settings.access_log_slow_seconds * 1000
        self._line: _Line = default_json if settings.access_log_encoding == "JSON" else default_line
        if settings.access_log_format:
            form = LogFormat.of_text(settings.access_log_format)
            self._line = lambda record, flags, upstream: form.line(record)

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
                self._log.write(form.line(record) if form is not None else self._line(record, flags, upstream))

    def _is_kept(self, record: ExchangeRecord) -> bool:
        has_failed = record.status >= 500 or (not record.status and bool(record.flags or record.method))
        return has_failed or record.duration_ms >= self._slow_ms
