from typing import Any

import pytest

from waypoint.controller.ownership import is_applied, without_others

OURS, THEIRS = "pywaypoint.dev", "somebody"
ITEM = 'k:{"name":"a"}'


def live(content: dict[str, Any], *owners: tuple[str, dict[str, Any]], operation: str = "Apply") -> dict[str, Any]:
    entries = [{"manager": manager, "operation": operation, "fieldsV1": fields} for manager, fields in owners]
    return {**content, "metadata": {"managedFields": entries, **content.get("metadata", {})}}


def test_what_others_apply_is_left_out() -> None:
    wanted = {"spec": {"size": 1, "containers": [{"name": "a", "image": "x", "args": ["b"]}]}}
    theirs = {"f:spec": {"f:size": {}, "f:containers": {ITEM: {".": {}, "f:name": {}, "f:image": {}}}}}

    left = without_others(wanted, live({}, (THEIRS, theirs)), [OURS])

    assert left == {"spec": {"containers": [{"name": "a", "args": ["b"]}]}}


def test_ports_without_a_protocol_are_tcp_ports() -> None:
    wanted = {"ports": [{"containerPort": 80, "name": "mine"}]}
    theirs = {"f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {"f:name": {}}}}

    assert without_others(wanted, live({}, (THEIRS, theirs)), [OURS]) == {"ports": [{"containerPort": 80}]}


def test_what_was_edited_or_is_ours_is_kept() -> None:
    wanted = {"spec": {"size": 1}}
    fields = {"f:spec": {"f:size": {}}}

    assert without_others(wanted, live({}, (THEIRS, fields), operation="Update"), [OURS]) == wanted
    assert without_others(wanted, live({}, (OURS, fields)), [OURS]) == wanted


def test_what_leaves_an_overlay_is_taken_back() -> None:
    wanted = {"size": 1, "time": 2, "containers": [{"name": "a", "image": "x", "args": ["b"]}]}
    theirs = {"f:size": {}, "f:time": {}, "f:containers": {ITEM: {".": {}, "f:image": {}, "f:args": {}}}}
    part = {"time": 9, "containers": [{"name": "a", "args": []}]}

    left = without_others(wanted, live({}, (THEIRS, theirs)), [OURS], {THEIRS: part})

    assert left == {"size": 1, "containers": [{"name": "a", "image": "x"}]}
    assert without_others(wanted, live({}, (THEIRS, theirs)), [OURS], {THEIRS: {}}) == wanted


WANTED = {"spec": {"size": 1, "containers": [{"name": "a", "cpu": "1000m"}], "list": [{"x": 1}]}}
THERE = {"spec": {"size": 1, "more": 2, "containers": [{"name": "a", "cpu": "1", "b": 1}], "list": [{"x": 1, "y": 0}]}}
FIELDS = {"f:spec": {"f:size": {}, "f:containers": {ITEM: {".": {}, "f:name": {}, "f:cpu": {}}}, "f:list": {}}}


def test_an_object_with_all_that_is_wanted_is_left_alone() -> None:
    assert is_applied(WANTED, live(THERE, (OURS, FIELDS)), OURS)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"size": 2}, {}),
        ({"containers": []}, {}),
        ({"list": [{"x": 1}, {"x": 2}]}, {}),
        ({}, {"f:gone": {}}),
        ({}, {"f:containers": {}}),
        ({}, {"f:containers": {'k:{"name":"b"}': {".": {}, "f:name": {}}}}),
        ({}, {"f:size": None}),
    ],
)
def test_a_difference_is_seen(change: dict[str, Any], fields: dict[str, Any]) -> None:
    """Other values, other fields of ours than are wanted, and a field that an editor took."""
    owned = {name: it for name, it in {**FIELDS["f:spec"], **fields}.items() if it is not None}
    if change or fields != {"f:containers": {}}:
        assert not is_applied(WANTED, live({"spec": {**THERE["spec"], **change}}, (OURS, {"f:spec": owned})), OURS)
    else:
        assert is_applied(WANTED, live(THERE, (OURS, {"f:spec": owned})), OURS), "owned as a whole"
