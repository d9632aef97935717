from hypothesis import example, given
from hypothesis import strategies as st

from l4.config import manifest
from l4.config.forms import Forms
from l4.config.rereading import Reader

POD = "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}, labels: {{a: '{}'}}}}\n"
PIECES = (
    *(POD.format(name, value) for name in "abc" for value in "12"),
    "# a comment\n" + POD.format("d", 1),
    POD.format("e", "|\n---") + "---\n" + POD.format("f", 1),
    "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: g}}\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: h}}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: i}\ndata:\n  a: |\n    ---\n    b\n",
    "apiVersion: v1\nkind: List\nitems: []\n",
    "kind: Pod\n",
    "{a: [\n",
    "'text\n",
    "%YAML 1.1\n",
    "...\n",
    "",
    "\n\n",
    "a: 1\r\nb: 2\n",
    "a: \u2028---\n",
)


def outcome(read: object) -> object:
    try:
        return read()  # type: ignore[operator]
    except ValueError as error:
        return error.args


@example([0, 2, 4], [0, 3, 4])
@example([0, 2, 4], [0, 4])
@given(st.lists(st.integers(0, len(PIECES) - 1)), st.lists(st.integers(0, len(PIECES) - 1)))
def test_what_is_read_again_is_what_is_read_at_once(first: list[int], second: list[int]) -> None:
    reader = Reader("a.yaml", Forms())
    texts = ["---\n".join(PIECES[it] for it in its).encode() for its in (first, second, first)]

    for text in texts:
        assert outcome(lambda: reader.read(text)) == outcome(lambda: manifest.read("a.yaml", text))  # noqa: B023


def test_a_document_that_is_written_as_before_is_the_same_object() -> None:
    reader = Reader("a.yaml", Forms())

    before = reader.read("---\n".join(PIECES[it] for it in (0, 2, 4)).encode()).documents
    after = reader.read("---\n".join(PIECES[it] for it in (0, 3, 4)).encode()).documents

    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert [it.origin.line for it in after] == [1, 5, 9]


def test_many_changes_at_once_are_read_alike() -> None:
    reader = Reader("a.yaml", Forms())
    texts = ["---\n".join(POD.format(f"p{number}", value) for number in range(20)).encode() for value in range(2)]

    reader.read(texts[0])

    assert reader.read(texts[1]) == manifest.read("a.yaml", texts[1])
