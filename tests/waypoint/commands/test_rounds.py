from waypoint.commands.rounds import Round, Rounds


def told(rounds: Rounds, *names: str) -> list[list[Round]]:
    """The rounds that are over after each event. The events are numbered."""
    return [list(rounds.take(name, {"number": number})) for number, name in enumerate(names)]


def test_a_round_is_over_when_each_has_told() -> None:
    assert told(Rounds("ab"), *"abba") == [
        [],
        [{"a": {"number": 0}, "b": {"number": 1}}],
        [],
        [{"b": {"number": 2}, "a": {"number": 3}}],
    ]


def test_one_that_tells_nothing_is_missed_and_holds_nobody_up() -> None:
    rounds = Rounds("abc")

    found = told(rounds, *"ab", *"ab", *"ab", *"ab")

    assert [[sorted(it) for it in over] for over in found] == [[], [], [], [], [["a", "b"]], [], [["a", "b"]], []]
    assert told(rounds, "c", "c") == [
        [{"a": {"number": 4}, "b": {"number": 5}, "c": {"number": 0}}],
        [{"a": {"number": 6}, "b": {"number": 7}, "c": {"number": 1}}],
    ], "it takes part again, in the oldest round that is not over"


def test_a_round_does_not_wait_for_one_that_has_left() -> None:
    rounds = Rounds("abc")
    assert told(rounds, "a", "b") == [[], []]

    assert [sorted(it) for it in rounds.leave("c")] == [["a", "b"]]
    assert list(rounds.leave("a")) == []
    assert told(rounds, "b") == [[{"b": {"number": 0}}]]
    assert rounds.followed == {"b"}
