from typing import Any

from l4.config.documents import FileOrigin, ObjectKey
from l4.config.resources import Resource
from waypoint.config.codes import ConfigCode
from waypoint.config.report import Report


def report() -> Report:
    key = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "reviews")
    resource: Resource[Any] = Resource(key, None, FileOrigin("routes.yaml", 7))
    return Report(resource)


def conditions(it: Report, *, is_all_dropped: bool = False) -> dict[str, tuple[bool, str]]:
    return {c.type: (c.is_true, c.reason) for c in it.conditions(is_all_dropped=is_all_dropped)}


def test_a_route_of_which_nothing_is_told_is_accepted_and_resolved() -> None:
    assert conditions(report()) == {"Accepted": (True, "Accepted"), "ResolvedRefs": (True, "ResolvedRefs")}


def test_a_problem_says_where_it_is() -> None:
    it = report()

    it.tell("spec.rules[0]", "is odd", ConfigCode.RULE_INVALID)

    [problem] = it.problems
    assert (str(problem.origin), problem.subject, problem.field) == (
        "routes.yaml:7",
        "HTTPRoute default/reviews",
        "spec.rules[0]",
    )


def test_a_reference_that_leads_nowhere_is_told_and_is_a_condition() -> None:
    it = report()

    it.unresolve("spec.rules[0].backendRefs[0]", "there is no such Service", ConfigCode.BACKEND_NOT_FOUND, "NotFound")

    assert [problem.code for problem in it.problems] == [ConfigCode.BACKEND_NOT_FOUND]
    assert conditions(it) == {"Accepted": (True, "Accepted"), "ResolvedRefs": (False, "NotFound")}


def test_a_rule_that_is_dropped_makes_a_route_partially_invalid() -> None:
    it = report()

    it.drop("spec.rules[0]", "is odd", ConfigCode.RULE_INVALID)

    assert conditions(it)["PartiallyInvalid"] == (True, "UnsupportedValue")
    assert conditions(it)["Accepted"] == (True, "Accepted")


def test_a_route_all_of_whose_rules_are_dropped_is_not_accepted() -> None:
    it = report()

    it.refuse("spec.rules[0]: can't be read")

    assert conditions(it, is_all_dropped=True)["Accepted"] == (False, "UnsupportedValue")
    assert it.problems == []
