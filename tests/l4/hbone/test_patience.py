from l4.hbone.patience import Patience
from l4.hbone.settings import DrainSettings, HboneSettings

SETTINGS = HboneSettings(ping_interval_seconds=30, ping_timeout_seconds=2, stall_seconds=60)


def times(patience: Patience) -> tuple[float, float, float]:
    return patience.ping_interval, patience.ping_timeout, patience.stall


def test_times_are_those_of_the_settings_while_the_process_serves() -> None:
    assert times(Patience(SETTINGS, DrainSettings(drain_silence_seconds=5))) == (30, 2, 60)


def test_no_time_is_longer_than_the_drains_while_the_process_stops() -> None:
    patience = Patience(SETTINGS, DrainSettings(drain_silence_seconds=5))

    patience.is_stopping = True

    assert times(patience) == (5, 2, 5)
