"""Time limits for a silent peer of an HBONE connection."""

from l4.hbone.settings import DrainSettings, HboneSettings


class Patience:
    """All times are in seconds. While the process stops, none of them exceeds `drain_silence_seconds`."""

    __slots__ = ("_drain", "_settings", "is_stopping")

    def __init__(self, settings: HboneSettings, drain: DrainSettings) -> None:
        self._settings = settings
        self._drain = drain
        self.is_stopping = False

    @property
    def ping_interval(self) -> float:
        return self._within(self._settings.ping_interval_seconds)

    @property
    def ping_timeout(self) -> float:
        return self._within(self._settings.ping_timeout_seconds)

    @property
    def stall(self) -> float:
        return self._within(self._settings.stall_seconds)

    def _within(self, seconds: float) -> float:
        return min(seconds, self._drain.drain_silence_seconds) if self.is_stopping else seconds
