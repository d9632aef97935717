import gc

from l4.config import collector


def test_what_was_made_meanwhile_is_not_looked_at_any_more() -> None:
    gc.collect()
    try:
        with collector.paused():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]

        assert gc.isenabled()
        assert gc.get_freeze_count() >= len(made)
        assert len(gc.get_objects()) < len(made)
    finally:
        gc.unfreeze()
