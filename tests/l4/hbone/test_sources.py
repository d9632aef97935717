from l4.hbone.sources import MAX_SOURCES, Sources


def test_one_address_has_its_burst_then_its_pace_whatever_others_do() -> None:
    sources = Sources(burst=2, per_second=1)

    assert [sources.take("10.0.0.1", 0.0) for _ in range(3)] == [True, True, False]
    assert sources.take("10.0.0.2", 0.0)
    assert not sources.take("10.0.0.1", 0.5)
    assert sources.take("10.0.0.1", 1.5)


def test_a_flood_of_addresses_takes_bounded_room() -> None:
    sources = Sources(burst=1, per_second=0)

    for number in range(MAX_SOURCES + 1):
        sources.take(str(number), 0.0)

    assert sources.take("0", 0.0)  # forgotten by now
    assert not sources.take(str(MAX_SOURCES), 0.0)
