"""One file of Kubernetes YAML → documents and problems. Pure: takes text, opens no files.

Accepts what kubectl accepts: several documents, `kind: List` and every `…List`, JSON. YAML is read as kubectl reads it:
scalars follow YAML 1.1, `1e3` is a number, a null field is absent. An unusable document is one problem with its line,
and the file's other documents remain usable.

Bounds: the size of a file and of an object, the nesting, and no aliases, which manifests do not need and "billion
laughs" attacks are made of.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from l4.config.documents import Document, FileOrigin, ObjectKey, Problem

MAX_FILE_BYTES = 16 << 20
MAX_OBJECT_BYTES = 1 << 20
MAX_DEPTH = 64

CLUSTER_SCOPED = frozenset({"Namespace", "GatewayClass", "Node", "CustomResourceDefinition", "PersistentVolume"} | {
    "ClusterRole", "ClusterRoleBinding", "StorageClass", "PriorityClass", "IngressClass", "APIService"
} | {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"})  # fmt: skip


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"

_FLOW = re.compile(r"""(?<!\S)\#.* | "(?:[^"\\]|\\[\s\S])*"? | (?<!\w)'[^']*'? | [][{}]""", re.VERBOSE)
"""The brackets of flow style, and the comments and quoted text in which brackets do not count."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An unusable document, and the readable parts of its key; None for the unreadable parts."""

    problem: Problem
    api_version: str | None
    kind: str | None
    namespace: str | None
    name: str | None
    is_object: bool
    """False for YAML that is not a Kubernetes object at all, such as the values of a chart."""

    def may_be(self, key: ObjectKey) -> bool:
        """Whether the document may be meant as the object of this key."""
        group = None if self.api_version is None else self.api_version.rpartition("/")[0]
        seen = ((group, key.group), (self.kind, key.kind), (self.namespace, key.namespace), (self.name, key.name))
        return self.is_object and all(part is None or part == its for part, its in seen)


@dataclass(slots=True)
class Contents:
    """The content of a file. `problems` includes those of the refusals."""

    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    is_empty: bool = True


class _Refused(Exception):
    def __init__(self, node: Node, sentence: str) -> None:
        super().__init__(sentence)
        self.line = node.start_mark.line + 1
        self.sentence = sentence


_OBJECT_FIELDS = frozenset({"apiVersion", "kind", "metadata", "spec"})


class _Loader(Composer, yaml.CSafeLoader):
    """libyaml's parser under Python's composer. libyaml's own composer overflows the C stack on 100 000 brackets, and
    blocks the event loop's thread for a whole document, because it holds the GIL."""

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        yaml.CSafeLoader.__init__(self, text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP, parent.start_mark.line + 1 if parent else 0)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(file: str, text: bytes) -> tuple[list[Document], list[Problem]]:
    """Like `read`, without the refusals."""
    contents = read(file, text)
    return contents.documents, contents.problems


def read(file: str, text: bytes) -> Contents:
    """Return the documents of a file in their order, and its problems.

    Raises ValueError with a sentence if the file as a whole is unreadable; the exception's second argument is the line,
    or 0 if that is unknown.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES} bytes; split it", 0)
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as UTF-8", 0) from None
    contents = Contents()
    for root in _roots(decoded):
        contents.is_empty = False
        for node in _unfold(file, root, contents):
            _read(file, node, contents)
    return contents


def plain(text: str) -> tuple[dict[str, Any], int] | None:
    """Return the content of the only document in a text, and the number of lines before it.

    None if there is not exactly one document, or if it has any error.
    """
    try:
        roots = list(_roots(text))
        content = _construct(roots[0], set()) if len(roots) == 1 else None
    except (ValueError, _Refused):
        return None
    return (content, roots[0].start_mark.line) if isinstance(content, dict) else None


def scalar(text: str) -> Any:
    """Return the value of a plain scalar. Raises ValueError."""
    if text[:1] not in _RESOLVED:
        return text
    node = ScalarNode(_SCALARS.resolve(ScalarNode, text, (True, False)), text)  # type: ignore[no-untyped-call]
    try:
        return _scalar(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _roots(text: str) -> Iterator[Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and not _is_null(node):
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        sentence = _TOO_DEEP if mark and _is_too_deep(text[: mark.index]) else _sentence(error)
        raise ValueError(sentence, mark.line + 1 if mark else 0) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ValueError("not YAML: " + " ".join(str(error).split()), 0) from None
    finally:
        loader.dispose()


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "it cannot be parsed"
    if problem == "found character that cannot start any token":
        problem = "a tab or a reserved character stands where a value should; indent with spaces, quote the value"
    return f"not YAML: {problem}"


def _is_too_deep(text: str) -> bool:
    """Whether the text, up to the place where libyaml failed, opens more lists and mappings than are allowed.

    libyaml reads ahead, and some versions have a limit of their own: libyaml may fail before our composer has counted.
    """
    depth = 0
    for token in _FLOW.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag.endswith(":null")


def _fields(node: Node) -> dict[str, Node]:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return {key.value: value for key, value in pairs if isinstance(key, ScalarNode)}


def _unfold(file: str, root: Node, contents: Contents) -> Iterator[Node]:
    """Yield the objects of a List, or the object itself."""
    fields = _fields(root)
    kind, items = fields.get("kind"), fields.get("items")
    if not isinstance(kind, ScalarNode) or not kind.value.endswith("List") or ("metadata" in fields and items is None):
        yield root
    elif isinstance(items, SequenceNode):
        for item in items.value:
            yield from _unfold(file, item, contents)
    elif items is None or not _is_null(items):
        contents.problems.append(_problem(file, root, "items", f"a {kind.value} needs a list of items"))
        contents.refusals.append(Refusal(contents.problems[-1], None, None, None, None, is_object=True))


def _read(file: str, node: Node, contents: Contents) -> None:
    try:
        size = node.end_mark.index - node.start_mark.index
        if size > MAX_OBJECT_BYTES:
            raise _Refused(node, f"the object has {size} bytes; at most {MAX_OBJECT_BYTES} are read")
        content = _construct(node, set())
    except _Refused as error:
        _refuse(contents, node, Problem(FileOrigin(file, error.line), file, "", error.sentence))
        return
    if not isinstance(content, dict):
        sentence = "a document must be a mapping with apiVersion, kind and metadata"
        _refuse(contents, node, _problem(file, node, "", sentence))
        return
    try:
        key = key_of(content)
    except ValueError as error:
        place, sentence = error.args
        _refuse(contents, node, _problem(file, node, place, sentence))
        return
    contents.documents.append(Document(key, content, FileOrigin(file, node.start_mark.line + 1)))


def key_of(content: Mapping[str, Any]) -> ObjectKey:
    """Return the key of an object. Raises ValueError with the wrong field and a sentence about it."""
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    version, kind, name = content.get("apiVersion"), content.get("kind"), metadata.get("name")
    for place, value in (("apiVersion", version), ("kind", kind), ("metadata.name", name)):
        if not isinstance(value, str) or not value:
            raise ValueError(place, f"{place} is missing or not a string; every object needs it")
    namespace = "" if kind in CLUSTER_SCOPED else metadata.get("namespace") or "default"
    if not isinstance(namespace, str):
        raise ValueError("metadata.namespace", "metadata.namespace must be a string")
    return ObjectKey(str(version).rpartition("/")[0], str(kind), namespace, str(name))


def _refuse(contents: Contents, node: Node, problem: Problem) -> None:
    contents.problems.append(problem)
    fields = _fields(node)
    metadata = fields.get("metadata")
    its = _fields(metadata) if metadata is not None else {}
    kind, namespace = _text(fields.get("kind")), None
    if kind in CLUSTER_SCOPED:
        namespace = ""
    elif isinstance(metadata, MappingNode):
        namespace = _text(its["namespace"]) if "namespace" in its else "default"
    is_object = not isinstance(node, MappingNode) or not fields.keys().isdisjoint(_OBJECT_FIELDS)
    version, name = _text(fields.get("apiVersion")), _text(its.get("name"))
    contents.refusals.append(Refusal(problem, version, kind, namespace, name, is_object))


def _text(node: Node | None) -> str | None:
    return node.value if isinstance(node, ScalarNode) and not _is_null(node) and node.value else None


def _problem(file: str, node: Node, field: str, sentence: str) -> Problem:
    return Problem(FileOrigin(file, node.start_mark.line + 1), file, field, sentence)


_SCALARS = _Loader("")
_RESOLVED = frozenset(_Loader.yaml_implicit_resolvers)
"""The first characters of plain scalars that may be something else than text; an empty scalar is null."""


def _construct(node: Node, seen: set[int]) -> Any:
    """Return a node's plain values. Refuses aliases of lists and mappings, duplicate keys and non-string keys."""
    if isinstance(node, ScalarNode):
        try:
            return _scalar(node)
        except (ValueError, yaml.YAMLError):
            raise _Refused(node, f"{node.value[:40]!r} is not a valid {node.tag.rpartition(':')[2]}") from None
    if id(node) in seen:
        raise _Refused(node, "used again by an alias (*name); write it out there")
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        return [_construct(item, seen) for item in node.value]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode) or key_node.tag.endswith(":merge"):
            raise _Refused(key_node, "a key must be a plain string")
        if key_node.value in mapping:
            raise _Refused(key_node, f"the key {key_node.value[:40]!r} is repeated; keep one of them")
        mapping[key_node.value] = _construct(value_node, seen)
    return {key: value for key, value in mapping.items() if value is not None}


def _scalar(node: ScalarNode) -> Any:
    match node.tag.rpartition(":")[2]:
        case "str" | "timestamp" | "binary" | "value" | "merge":  # kubectl, too, leaves dates as text
            return node.value
        case _:
            return _SCALARS.construct_object(node, deep=True)


# -- where a field stands ------------------------------------------------------------------------------------------


def line_of(lines: Iterable[bytes], path: tuple[str | int, ...]) -> int:
    """Return the line of a field, counted from 0, in text whose first line begins an object; as far down the path as
    the text goes.

    Reads no further than the object. Raises ValueError if the text is not YAML (any more).
    """
    loader = _Loader(_first_object(lines).decode("utf-8", "replace"))
    try:
        if not loader.check_node():
            return 0
        loader.get_event()  # the document's begin
        return _descend(loader.compose_node(None, None), path)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    finally:
        loader.dispose()


def _first_object(lines: Iterable[bytes]) -> bytes:
    """Return the lines of the object that begins in the first line; a list's dash before it becomes a blank."""
    rest = iter(lines)
    first = next(rest, b"").removeprefix("\ufeff".encode())
    indent = len(first) - len(first.lstrip(b" -"))
    text = bytearray(b" " * indent + first[indent:])
    for line in rest:
        content = line.strip()
        is_outside = content and not content.startswith(b"#") and len(line) - len(line.lstrip(b" ")) < indent
        if is_outside or line.startswith((b"---", b"...")) or len(text) > MAX_OBJECT_BYTES:
            break
        text += line
    return bytes(text)


def _descend(node: Node | None, path: tuple[str | int, ...]) -> int:
    line = node.start_mark.line if node is not None else 0
    for step in path:
        found: Node | None = None
        if isinstance(node, MappingNode):
            for key, value in node.value:
                if key.value == step:
                    line, found = key.start_mark.line, value
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
            line = found.start_mark.line
        if found is None:
            break
        node = found
    return int(line)
