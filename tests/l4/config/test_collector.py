import gc
from contextlib import ExitStack

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


def test_the_collector_rests_until_the_last_of_several_readers_has_ended() -> None:
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(collector.paused())
        second.enter_context(collector.paused())

        first.close()
        between = gc.isenabled()
        second.close()

        assert not between
        assert gc.isenabled()


def test_pieces_are_freed_one_after_the_other_unless_others_refer_to_them() -> None:
    left: list[int] = []

    class Piece:
        def __del__(self) -> None:
            left.append(len(pieces))

    kept = Piece()
    pieces: list[object] = [Piece(), kept, Piece(), Piece()]

    collector.free(pieces)

    assert left == [3, 2, 0]
    assert pieces == []
