from l4.kubernetes.reflector import Key
from waypoint.controller.access import binding


def test_the_binding_names_every_waypoint_in_a_fixed_order() -> None:
    found = binding("reader", [Key("b", "x"), Key("a", "y")])

    assert found["metadata"] == {"name": "reader"}
    assert found["roleRef"]["name"] == "reader"
    assert [(it["namespace"], it["name"]) for it in found["subjects"]] == [("a", "y"), ("b", "x")]
