"""Settings of the access log."""

from dataclasses import dataclass

from l4.config.settings import Section, setting


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
