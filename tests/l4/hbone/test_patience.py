from l4.hbone.patience import Patience
from l4.hbone.settings import DrainSettings, HboneSettings


def test_no_time_is_longer_than_the_silence_that_is_allowed_while_the_process_stops() -> None:
    own = HboneSettings(ping_interval_seconds=10, ping_timeout_seconds=4, stall_seconds=300)
    patience = Patience(own, DrainSettings(drain_silence_seconds=5))

    usual = patience.ping_interval, patience.ping_timeout, patience.stall
    patience.is_stopping = True
    stopping = patience.ping_interval, patience.ping_timeout, patience.stall

    assert usual == (10, 4, 300)
    assert stopping == (5, 4, 5)
