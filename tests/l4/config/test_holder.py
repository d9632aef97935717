from l4.config.holder import Holder


def test_a_subscriber_is_called_at_once_and_with_every_value_after_it_is_in_force() -> None:
    holder = Holder("first")
    seen: list[tuple[str, str]] = []

    holder.subscribe(lambda value: seen.append((value, holder.current)))
    holder.swap("second")

    assert seen == [("first", "first"), ("second", "second")]


def test_subscribers_are_called_in_the_order_in_which_they_came() -> None:
    holder = Holder(0)
    calls: list[str] = []
    holder.subscribe(lambda _: calls.append("a"))
    holder.subscribe(lambda _: calls.append("b"))
    calls.clear()

    holder.swap(1)

    assert calls == ["a", "b"]
