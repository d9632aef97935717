"""Schedules: active between two moments, or for a while after each time that a cron expression names.

Times are seconds since 1970. Cron expressions are in UTC. https://man7.org/linux/man-pages/man5/crontab.5.html
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cronsim import CronSim, CronSimError

MAX_LASTS_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Active from `begins` until `ends`.

    With `cron`, active in that period only for `lasts_seconds` after each time that the expression names.
    """

    begins: float | None = None
    ends: float | None = None
    cron: str = ""
    lasts_seconds: float = 0.0

    def is_on(self, now: float) -> bool:
        if (self.begins is not None and now < self.begins) or (self.ends is not None and now >= self.ends):
            return False
        return not self.cron or now - _last(self.cron, int(now // 60)) < self.lasts_seconds


def check_cron(text: str) -> None:
    """Validate a cron expression. Raises ValueError with an explanation."""
    if len(text.split()) != 5:
        raise ValueError(f"{text!r} is not a cron expression of five fields such as 0 9 * * 1-5")
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{text!r} is not a cron expression such as 0 9 * * 1-5: {error}") from None


@lru_cache(maxsize=1024)
def _last(cron: str, minute: int) -> float:
    """Return the last time that the expression names up to `minute`. Cached per minute, the resolution of cron."""
    after = datetime.fromtimestamp((minute + 1) * 60, UTC)
    return next(CronSim(cron, after, reverse=True), datetime.fromtimestamp(0, UTC)).timestamp()
