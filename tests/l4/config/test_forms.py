"""Reading by a form gives the same result as `manifest.read`, for any text."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from l4.config import manifest
from l4.config.forms import Forms

POD = """\
# written by a tool
apiVersion: v1
kind: Pod
metadata: {{name: {0}, labels: {{app: "{1}", zone: 'a b'}}}}
spec:
  containers:
  - name: web
    image: nginx:1.25@sha256:0a{2}
    id: containerd://8f{2}
    ports: [{{containerPort: {2}}}]
status:
  podIP: {3}
"""


def whole(text: str) -> list[tuple[Any, int]] | None:
    try:
        contents = manifest.read("f", text.encode())
    except ValueError:
        return None
    return None if contents.problems else [(it.content, it.origin.line - 1) for it in contents.documents]


def typed(value: Any) -> Any:
    """With the types of scalars, for 1 is equal to True."""
    if isinstance(value, dict):
        return {key: typed(its) for key, its in value.items()}
    if isinstance(value, list):
        return list(map(typed, value))
    return type(value), str(value)


def test_a_form_is_parsed_once_and_filled_with_the_values_of_each_text() -> None:
    forms = Forms()
    texts = [POD.format(f"web-{it}", "yes", it, f"fd00::{it}") for it in range(3)]

    read = [forms.read(text) for text in texts]

    assert [typed(it) for it in read] == [typed(whole(text)[0]) for text in texts]  # type: ignore[index]
    assert len(forms) == 1


def test_what_is_the_same_in_consecutive_objects_is_shared() -> None:
    forms = Forms()

    one, other = (forms.read(POD.format(name, "web", 80, ip)) for name, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2")))

    assert one is not None
    assert other is not None
    assert one[0]["spec"] is other[0]["spec"]
    assert one[0]["metadata"]["labels"] is other[0]["metadata"]["labels"]
    assert (one[0]["status"], other[0]["status"]) == ({"podIP": "10.0.0.1"}, {"podIP": "10.0.0.2"})


def test_a_value_that_is_only_a_part_of_one_is_left_to_the_parser() -> None:
    forms = Forms()
    for text in ("a: b\n  c\n", "a: |\n  b: c\n", "a: b, c\n", "a: b # c: d\n", "a: b}\n"):
        assert forms.read(text) is None, text


def test_forms_that_nobody_uses_any_more_make_room() -> None:
    forms = Forms()

    for number in range(300):
        forms.read("".join(f"a{number}x{line}: b\n" for line in range(1000)))

    assert 0 < len(forms) < 150


def test_a_very_long_text_has_no_form() -> None:
    assert Forms().read("a: b\n" * 10_000) is None


_WORDS = st.sampled_from(
    (
        *("a", "b: c", "- a", "? a", "- - a", "-a", ": ", ", ", "[", "]", "{", "}", "{a: b}", "[a, b]", "&x ", "*x"),
        *("!!str ", "!x ", "| ", "|\n  ", "> ", "'", '"', '"a"', "'a'", "'a'':'", '"a\\n"', "# a: b", " #", "#a: b"),
        *("yes", "No", "null", "~", "1e3", "0o17", "017", "1_000", "12:30", "0x1f", "1.5", ".5", "-1", "+1", "<<: *x"),
        *(
            "2026-01-02",
            "2026-13-45",
            "a:b",
            "a::1",
            "nginx:1.25",
            "http://a/b",
            "x=y",
            "%a",
            "@a",
            "`a",
            "é",
            "\ue000",
        ),
        *(
            "\n",
            "\n  ",
            "\n    ",
            "\n- ",
            "\n  - ",
            "\na: ",
            "\n  a: ",
            "\n  b: ",
            "\n...\n",
            "\t",
            " ",
            "\n\n",
            "a: b",
        ),
        *("a: 1\nb: 1", "a: 'it, b'", 'a: "x, b: c"', "kind: List\nitems: [a]", "a: \x07", "b: -", "b: ---", "- --- a"),
    )
)
_BEGIN = "apiVersion: v1\nkind: {0}\nmetadata: {{name: {0}, labels: {{a: {1}}}}}\nspec: "


@example(["a: 1", "\n", "b: true"], ["a: true", "\n", "b: 1"])
@example(["a: null"], ["a: b"])
@example(["[a", "\n", "- b"], [])
@given(st.lists(_WORDS, max_size=8), st.lists(_WORDS, max_size=8))
@settings(max_examples=400)
def test_what_is_read_by_a_form_is_what_is_read_whole(first: list[str], second: list[str]) -> None:
    forms = Forms()
    for words in (first, second):
        for kind, value in (("Pod", "yes"), ("null", "1"), ('"Pod"', '"yes"'), ("Service", "null")):
            for text in ("".join(words), _BEGIN.format(kind, value) + "".join(words)):
                read, wanted = forms.read(text), manifest.plain(text)

                assert read is None or typed(read) == typed(wanted), text


_TOKENS = (
    "containerd://8f",
    "x/y@sha256:0a",
    "a=b",
    "a:/",
    "http://[::1]",
    "a",
    "yes",
    "null",
    "1",
    "0x1f",
    "1e3",
    "12:30",
    "2026-01-02",
    "2026-13-45",
    "a::1",
    "nginx:1.25",
    "1.5",
    "07",
)
_QUOTED = tuple(f"{quote}{it}{quote}" for it in ("", "a, b", "c: d", " # ", "yes", "{", "- a") for quote in "\"'")


@given(st.lists(_WORDS, max_size=6), st.lists(_WORDS, max_size=6), st.sampled_from((": ", "- ", ", ", "[")))
@settings(max_examples=300)
def test_whatever_value_stands_at_a_place_is_read_as_the_parser_reads_it(
    before: list[str], after: list[str], delimiter: str
) -> None:
    forms = Forms()
    for begin in ("".join(before), "a: {b: " + "".join(before), "a:\n- " + "".join(before)):
        for token in (*_TOKENS, *_QUOTED):
            text = f"{begin}{delimiter}{token}{''.join(after)}"

            read = forms.read(text)

            assert read is None or typed(read) == typed(manifest.plain(text)), text
