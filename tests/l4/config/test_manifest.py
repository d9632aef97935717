from textwrap import dedent

import pytest

from l4.config import manifest
from l4.config.documents import Document, FileOrigin, ObjectKey, Problem

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"


def parse(text: str | bytes) -> tuple[list[Document], list[Problem]]:
    return manifest.parse("f.yaml", dedent(text).encode() if isinstance(text, str) else text)


def content(text: str) -> object:
    """The value of field `x` of a pod."""
    documents, problems = parse(f"{POD}x: {text}\n")
    assert not problems
    return documents[0].content.get("x")


def refused(text: str) -> tuple[int, str]:
    """Line and sentence of the one problem that field `x`, on line 4, has."""
    documents, problems = parse(f"{POD}x: {text}\n")
    assert not documents
    assert len(problems) == 1
    return problems[0].origin.line, problems[0].sentence


def unreadable(text: str | bytes) -> tuple[str, int]:
    with pytest.raises(ValueError) as caught:
        parse(text)
    sentence, line = caught.value.args
    return sentence, line


def test_each_document_knows_its_key_and_the_line_it_starts_on() -> None:
    documents, problems = parse("""\
        # Bookinfo
        apiVersion: v1
        kind: Service
        metadata:
          name: reviews
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata:
          name: reviews
          namespace: books
        """)

    assert not problems
    assert [(it.key, it.origin) for it in documents] == [
        (ObjectKey("", "Service", "default", "reviews"), FileOrigin("f.yaml", 2)),
        (ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "books", "reviews"), FileOrigin("f.yaml", 7)),
    ]


def test_objects_of_cluster_scope_have_no_namespace() -> None:
    documents, _ = parse("{apiVersion: v1, kind: Namespace, metadata: {name: books, namespace: ignored}}")

    assert documents[0].key == ObjectKey("", "Namespace", "", "books")


@pytest.mark.parametrize("kind", ["List", "PodList"])
def test_what_kubectl_get_prints_is_unfolded(kind: str) -> None:
    documents, problems = parse(f"""\
        apiVersion: v1
        kind: {kind}
        metadata:
          resourceVersion: ""
        items:
        - apiVersion: v1
          kind: Pod
          metadata:
            name: a
        - apiVersion: v1
          kind: Pod
          metadata:
            name: b
        """)

    assert not problems
    assert [(it.key.name, it.origin.line) for it in documents] == [("a", 6), ("b", 10)]


@pytest.mark.parametrize("items", ["[]", "null", ""])
def test_an_empty_list_holds_nothing(items: str) -> None:
    assert parse(f"apiVersion: v1\nkind: PodList\nmetadata: {{}}\nitems: {items}\n") == ([], [])


def test_a_kind_that_only_ends_in_list_is_an_object() -> None:
    documents, _ = parse("{apiVersion: example.com/v1, kind: AllowList, metadata: {name: a}}")

    assert documents[0].key.kind == "AllowList"


def test_a_list_whose_items_are_no_list_is_a_problem() -> None:
    _, problems = parse("{apiVersion: v1, kind: PodList, items: 7}")

    assert [str(it) for it in problems] == ["f.yaml:1: f.yaml items: a PodList needs a list of items [PWP0001]"]


def test_json_is_yaml() -> None:
    documents, _ = parse('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "x": [1, true, null]}')

    assert documents[0].content["x"] == [1, True, None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", False),
        ("012", 10),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("'80'", "80"),
        ("2001-01-01", "2001-01-01"),
        ("!!binary aGk=", "aGk="),
    ],
)
def test_scalars_are_what_kubectl_makes_of_them(text: str, value: object) -> None:
    found = content(text)

    assert found == value
    assert type(found) is type(value)


def test_a_field_that_is_null_is_absent() -> None:
    documents, _ = parse("{apiVersion: v1, kind: Pod, metadata: {name: a, creationTimestamp: null}, spec: null}")

    assert documents[0].content == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("{a: 1, a: 2}", 4, "the key 'a' is repeated"),
        ("{a: null, a: 2}", 4, "the key 'a' is repeated"),
        ("[&it [1], *it]", 4, "alias"),
        ("&it [*it]", 4, "alias"),
        ("{<<: {a: 1}}", 4, "a key must be a plain string"),
        ("{? [a] : b}", 4, "a key must be a plain string"),
        ("!!int nine", 4, "'nine' is not a valid int"),
        ("!!python/name:os.system x", 4, "'x' is not a valid"),
        ("9" * 5000, 4, "is not a valid int"),
        ("'" + "x" * manifest.MAX_OBJECT_BYTES + "'", 1, "at most 1048576 are read"),
    ],
)
def test_what_a_manifest_must_not_hold_is_refused_with_its_line(text: str, line: int, sentence: str) -> None:
    assert refused(text)[0] == line
    assert sentence in refused(text)[1]


def test_a_python_tag_makes_no_python_object() -> None:
    assert content("!!python/object/apply:os.system [id]") == ["id"]


def test_an_alias_bomb_costs_nothing() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 60))

    _, problems = parse(f"{POD}l0: &l0 [x]\n{levels}\n")

    assert "alias" in problems[0].sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("7", "must be a mapping"),
        ("[]", "must be a mapping"),
        ("kind: Pod\nmetadata: {name: a}", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}", "kind is missing"),
        ("apiVersion: v1\nkind: [a]\nmetadata: {name: a}", "kind is missing or not a string"),
        ("apiVersion: v1\nkind: Pod", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}", "metadata.name is missing or not a string"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: [b]}", "metadata.namespace must be a string"),
    ],
)
def test_a_document_that_is_no_object_is_a_problem_and_the_others_go_on(text: str, sentence: str) -> None:
    documents, problems = parse(f"{text}\n---\n{POD}")

    assert [it.key.name for it in documents] == ["a"]
    assert [it.origin.line for it in problems] == [1]
    assert sentence in problems[0].sentence


@pytest.mark.parametrize(
    ("text", "sentence", "line"),
    [
        ("a: [\n", "not YAML", 2),
        ("a:\n\t- b\n", "indent with spaces", 2),
        (b"a: \x00\n", "control characters are not allowed", 0),
        ("a: é".encode("utf-16"), "is not UTF-8", 0),
        ("[" * 100_000, "nested more than 64 deep", 1),
        ("".join(f"{' ' * depth}a:\n" for depth in range(1000)), "nested more than 64 deep", 64),
        ("{kind: List, items: [" * 40, "nested more than 64 deep", 1),
        (b" " * (manifest.MAX_FILE_BYTES + 1), "split it", 0),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_where(text: str | bytes, sentence: str, line: int) -> None:
    said, where = unreadable(text)

    assert sentence in said
    assert where == line


@pytest.mark.parametrize("opening", ["[", "- ", "? ", "{a: ", "a: ["])
@pytest.mark.parametrize("times", [65, 1_000, 5_000])  # libyaml gives up by itself between the two
def test_who_gives_up_first_does_not_change_the_sentence(opening: str, times: int) -> None:
    said, where = unreadable(opening * times)

    assert said == "nested more than 64 deep"
    assert where == 1


@pytest.mark.parametrize("shallow", ['a: "[[{0}"\n', "a: '{0}'\n", "a: \\n # {0}\n", "{1}"])
def test_brackets_that_open_nothing_do_not_count(shallow: str) -> None:
    text = shallow.format("[{" * 100, "a: [" + "[{}], " * 100 + "]\n")

    said, _ = unreadable(f"{text}b: [\n")

    assert said.startswith("not YAML")


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n", "\ufeff"])
def test_a_file_may_be_empty(text: str) -> None:
    assert parse(text) == ([], [])


LISTED = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata:
    name: a
  spec:
    ports:
    - port: 80
    # comment
    - port: 90000
- apiVersion: v1
  kind: Service
"""
PRETTY = """\
[
    {
        "spec": {
            "ports": [
                {
                    "port": 90000
                }
            ]
        }
    },
    {"next": 1}
]
"""


@pytest.mark.parametrize(
    ("text", "start", "path", "line"),
    [
        (LISTED, 4, ("spec", "ports", 1, "port"), 12),
        (LISTED, 4, ("spec", "ports", 7), 9),
        (LISTED, 4, ("spec", "nothing"), 8),
        (LISTED, 4, (), 4),
        (PRETTY, 2, ("spec", "ports", 0, "port"), 6),
        ("a:\n  b: 1\n---\na: [\n", 1, ("a", "b"), 2),
    ],
)
def test_a_field_is_found_in_the_text_of_its_object(
    text: str, start: int, path: tuple[str | int, ...], line: int
) -> None:
    lines = text.encode().splitlines(keepends=True)[start - 1 :]

    assert start + manifest.line_of(lines, path) == line
