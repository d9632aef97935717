from l4.readiness import Readiness, merge


def test_the_whole_is_ready_when_every_part_is() -> None:
    assert merge([]).is_ready
    assert merge([Readiness(), Readiness()]).is_ready
    assert merge([Readiness({"listener"}), Readiness({"certificate"})]).pending == {"listener", "certificate"}


def test_each_sentence_about_a_subject_is_kept_once() -> None:
    parts = [Readiness(concerns={"keys": sentence}) for sentence in ("no keys of a", "no keys of b", "no keys of a")]

    assert merge(parts).concerns == {"keys": "no keys of a\nno keys of b"}


def test_several_sentences_about_a_subject_are_kept_once_each() -> None:
    part = Readiness(concerns={"keys": "no keys of a\nno keys of b"})
    other = Readiness(concerns={"keys": "no keys of b\nno keys of c"})

    assert merge([part]).concerns == part.concerns
    assert merge([part, other]).concerns == {"keys": "no keys of a\nno keys of b\nno keys of c"}


def test_merging_leaves_the_parts_as_they_were() -> None:
    one, other = Readiness({"listener"}, {"keys": "no keys"}), Readiness()

    merge([one, other]).done("listener")
    merge([other, one]).concern("keys", "")

    assert (one.pending, one.concerns) == ({"listener"}, {"keys": "no keys"})
    assert other.is_ready
