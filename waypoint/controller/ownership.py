"""The owners of an object's fields (`metadata.managedFields`), and whether applying would change the object.

A manager that applies fields by server-side apply owns them on purpose, so the controller leaves them out of what it
applies. An edit takes ownership too, but claims nothing: the controller restores the field.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

Fields = Mapping[str, Any]
"""A set of fields as FieldsV1: `f:name` is a field, `k:{...}` an item of a list by its keys, `v:...` a value of a set;
an empty mapping is a leaf."""

_KEY_DEFAULTS = {"protocol": "TCP"}
_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_UNITS = {
    **{
        unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def applied_by(live: Mapping[str, Any], manager: str) -> Fields:
    """The fields that `manager` owns by server-side apply."""
    return next((fields for name, fields in _appliers(live) if name == manager), {})


def without_others(
    wanted: dict[str, Any],
    live: Mapping[str, Any],
    managers: Iterable[str],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """`wanted` without fields that others than `managers` own by server-side apply. Of a manager in `parts`, only the
    fields that its part still has count: it is about to give the others back."""
    ours = set(managers)
    for name, fields in _appliers(live):
        if name not in ours:
            part = (parts or {}).get(name)
            wanted = _without(wanted, fields if part is None else _still_in(part, fields))
    return wanted


def is_applied(wanted: Mapping[str, Any], live: Mapping[str, Any], manager: str) -> bool:
    """Whether `live` has all that is wanted, and `manager` owns just this there."""
    owned = applied_by(live, manager)
    content = {name: value for name, value in wanted.items() if name not in ("apiVersion", "kind")}
    metadata = {name: value for name, value in content.get("metadata", {}).items() if name not in ("name", "namespace")}
    content["metadata"] = metadata
    return _contains(live, content) and _owns(owned, content, live) and not _is_beyond(owned, content)


def _appliers(live: Mapping[str, Any]) -> Iterator[tuple[str, Fields]]:
    for entry in live.get("metadata", {}).get("managedFields") or ():
        if entry.get("operation") == "Apply" and not entry.get("subresource"):
            yield entry.get("manager", ""), entry.get("fieldsV1") or {}


def _without(wanted: dict[str, Any], fields: Fields) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in wanted.items():
        owned = fields.get(f"f:{name}")
        if owned is None:
            kept[name] = value
        elif owned == {}:
            continue
        elif isinstance(value, dict):
            if left := _without(value, owned):
                kept[name] = left
        elif isinstance(value, list):
            kept[name] = [_item_without(it, owned) for it in value]
        else:
            kept[name] = value
    return kept


def _still_in(part: Any, fields: Fields) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, inner in fields.items():
        sort, _, rest = name.partition(":")
        if sort == "f":
            if isinstance(part, dict) and rest in part:
                kept[name] = _still_in(part[rest], inner)
        elif sort == "k":
            keys = json.loads(rest)
            item = next((it for it in part if _has(it, keys)), None) if isinstance(part, list) else None
            if item is not None:
                kept[name] = _still_in({**keys, **item}, inner)
        else:
            kept[name] = inner
    return kept if kept or not fields else {".": {}}  # nothing but itself: no leaf


def _item_without(item: Any, fields: Fields) -> Any:
    """An item keeps its keys: they say which one it is."""
    for name, owned in fields.items():
        if name.startswith("k:") and _has(item, keys := json.loads(name[2:])):
            return {key: item[key] for key in keys if key in item} | _without(item, owned)
    return item


def _has(item: Any, keys: Mapping[str, Any]) -> bool:
    if not isinstance(item, dict):
        return False
    return all(item.get(key, _KEY_DEFAULTS.get(key)) == value for key, value in keys.items())


def _contains(live: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        return all(_contains(live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list) and any(isinstance(it, dict) for it in wanted):
        return isinstance(live, list) and all(_contains_item(live, it, index) for index, it in enumerate(wanted))
    return bool(live == wanted) or _is_same_quantity(live, wanted)


def _contains_item(live: list[Any], item: Any, index: int) -> bool:
    """It is most often at the same place, which spares looking through long lists."""
    if index < len(live) and _contains(live[index], item):
        return True
    return any(_contains(its, item) for its in live)


def _owns(fields: Fields, wanted: Any, live: Any) -> bool:
    """Whether the wanted fields are all owned: an editor takes those that he changes. A leaf is owned as a whole."""
    if not fields:
        return not isinstance(wanted, list) or len(wanted) == len(live)
    if isinstance(wanted, dict):
        return all(
            f"f:{name}" in fields and _owns(fields[f"f:{name}"], value, live.get(name))
            for name, value in wanted.items()
            if value not in ({}, None)
        )
    if isinstance(wanted, list):
        return all(_owns_item(fields, it, live) for it in wanted)
    return True


def _owns_item(fields: Fields, item: Any, live: list[Any]) -> bool:
    for name, owned in fields.items():
        if name.startswith("k:") and _has(item, keys := json.loads(name[2:])):
            its: Any = next((it for it in live if _has(it, keys)), {})
            return _owns(owned, item, its)
        if name.startswith("v:") and json.loads(name[2:]) == item:
            return True
    return False


def _is_same_quantity(one: Any, other: Any) -> bool:
    """The API server writes quantities its own way: 1000m becomes 1."""
    amounts = [_amount(it) for it in (one, other)]
    return amounts[0] is not None and amounts[0] == amounts[1]


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _QUANTITY.fullmatch(str(value))
    return Decimal(found[1]) * _UNITS[found[2] or ""] if found else None


def _is_beyond(fields: Fields, wanted: Any) -> bool:
    """Whether a field is owned that isn't wanted."""
    for name, inner in fields.items():
        sort, _, rest = name.partition(":")
        if sort == "f":
            if not isinstance(wanted, dict) or rest not in wanted or _is_beyond(inner, wanted[rest]):
                return True
        elif sort == "k":
            keys = json.loads(rest)
            items = wanted if isinstance(wanted, list) else []
            item = next((it for it in items if _has(it, keys)), None)
            if item is None or _is_beyond(inner, {**keys, **item}):
                return True
        elif sort == "v" and (not isinstance(wanted, list) or json.loads(rest) not in wanted):
            return True
    return False
