"""One file of Kubernetes YAML → documents and problems. Pure: takes text, knows no files.

What kubectl takes is taken: several documents, `kind: List` and every `…List`, JSON. YAML is read as kubectl reads it
(YAML 1.1 scalars, and `1e3` is a number). A document that can't be used is one problem, with its line; the others of
the file go on. Bounds: the size of a file and of an object, nesting, and no aliases, which no manifest needs and bombs
are made of.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from l4.config.documents import Document, ObjectKey, Origin, Problem

MAX_FILE_BYTES = 16 << 20
MAX_OBJECT_BYTES = 1 << 20
MAX_DEPTH = 64

CLUSTER_SCOPED = frozenset({"Namespace", "GatewayClass", "Node", "CustomResourceDefinition", "PersistentVolume"} | {
    "ClusterRole", "ClusterRoleBinding", "StorageClass", "PriorityClass", "IngressClass", "APIService"
} | {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"})  # fmt: skip


class _Refused(Exception):
    def __init__(self, node: Node, sentence: str) -> None:
        super().__init__(sentence)
        self.line = node.start_mark.line + 1
        self.sentence = sentence


class _Loader(yaml.CSafeLoader):
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(file: str, text: bytes) -> tuple[list[Document], list[Problem]]:
    """The documents of a file in their order, and what is wrong with it. Raises ValueError with a sentence when the
    file as a whole can't be read; its line, if known, is the exception's second argument."""
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"the file has {len(text)} bytes; at most {MAX_FILE_BYTES} are read", 0)
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as UTF-8", 0) from None
    documents: list[Document] = []
    problems: list[Problem] = []
    for root in _roots(decoded):
        for node in _unfold(file, root, problems):
            _read(file, node, documents, problems)
    return documents, problems


def _roots(text: str) -> Iterator[Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and not (isinstance(node, ScalarNode) and node.tag.endswith(":null")):
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"not YAML: {error.problem or error.context}", mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {error}", 0) from None
    finally:
        loader.dispose()


def _unfold(file: str, root: Node, problems: list[Problem]) -> Iterator[Node]:
    """The objects of a List, or the object itself."""
    fields = {key.value: value for key, value in root.value} if isinstance(root, MappingNode) else {}
    kind, items = fields.get("kind"), fields.get("items")
    if kind is None or not str(kind.value).endswith("List") or ("metadata" in fields and items is None):
        yield root
    elif isinstance(items, SequenceNode):
        for item in items.value:
            yield from _unfold(file, item, problems)
    else:
        problems.append(_problem(file, root, "items", f"a {kind.value} needs a list of items"))


def _read(file: str, node: Node, documents: list[Document], problems: list[Problem]) -> None:
    try:
        size = node.end_mark.index - node.start_mark.index
        if size > MAX_OBJECT_BYTES:
            raise _Refused(node, f"the object has {size} bytes; at most {MAX_OBJECT_BYTES} are read")
        content = _construct(node, set(), 0)
    except _Refused as error:
        problems.append(Problem(Origin(file, error.line), file, "", error.sentence))
        return
    if not isinstance(content, dict):
        problems.append(_problem(file, node, "", "a document must be a mapping with apiVersion, kind and metadata"))
        return
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    version, kind, name = content.get("apiVersion"), content.get("kind"), metadata.get("name")
    namespace = "" if kind in CLUSTER_SCOPED else metadata.get("namespace") or "default"
    for field, value in (("apiVersion", version), ("kind", kind), ("metadata.name", name)):
        if not isinstance(value, str) or not value:
            problems.append(_problem(file, node, field, f"{field} is missing or no text; every object needs it"))
            return
    if not isinstance(namespace, str):
        problems.append(_problem(file, node, "metadata.namespace", "metadata.namespace must be text"))
        return
    key = ObjectKey(str(version).rpartition("/")[0], str(kind), namespace, str(name))
    documents.append(Document(key, content, Origin(file, node.start_mark.line + 1)))


def _problem(file: str, node: Node, field: str, sentence: str) -> Problem:
    return Problem(Origin(file, node.start_mark.line + 1), file, field, sentence)


_SCALARS = _Loader("")


def _construct(node: Node, seen: set[int], depth: int) -> Any:
    """Plain values of a node; refuses aliases, duplicate keys and keys that are no text."""
    if depth > MAX_DEPTH:
        raise _Refused(node, f"nested more than {MAX_DEPTH} deep")
    if isinstance(node, ScalarNode):
        try:
            return _scalar(node)
        except (ValueError, yaml.YAMLError):
            raise _Refused(node, f"{node.value!r} is no valid {node.tag.rpartition(':')[2]}") from None
    if id(node) in seen:
        raise _Refused(node, "an alias (*name): write the value out")
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        return [_construct(item, seen, depth + 1) for item in node.value]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key, str) or key_node.tag.endswith(":merge"):
            raise _Refused(key_node, "a key must be plain text")
        if key in mapping:
            raise _Refused(key_node, f"the key {key!r} stands twice; keep one of them")
        mapping[key] = _construct(value_node, seen, depth + 1)
    return mapping


def _scalar(node: ScalarNode) -> Any:
    match node.tag.rpartition(":")[2]:
        case "str" | "timestamp":  # kubectl, too, leaves dates as text
            return node.value
        case "binary" | "value" | "merge":
            return node.value
        case _:
            return _SCALARS.construct_object(node, deep=True)


def line_of(text: bytes, start_line: int, path: tuple[str | int, ...]) -> int:
    """The line of a field within the object that starts at `start_line`; as far down the path as the text goes."""
    for root in _roots(text.decode("utf-8-sig")):
        pending = [root]
        while pending:
            node = pending.pop()
            if node.start_mark.line + 1 == start_line and isinstance(node, MappingNode):
                return _descend(node, path)
            items = {key.value: value for key, value in node.value} if isinstance(node, MappingNode) else {}
            if isinstance(items.get("items"), SequenceNode):
                pending.extend(items["items"].value)
    return start_line


def _descend(node: Node, path: tuple[str | int, ...]) -> int:
    line = node.start_mark.line + 1
    for step in path:
        found: Node | None = None
        if isinstance(node, MappingNode):
            for key, value in node.value:
                if key.value == step:
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
