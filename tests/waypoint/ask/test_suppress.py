import pytest

from l4.config.codes import Code
from l4.config.documents import FileOrigin, Problem
from tests.kit.snapshots import documents_of
from waypoint.ask.codes import LintCode
from waypoint.ask.suppress import ALL, Suppression, annotated, codes_named
from waypoint.config.codes import ConfigCode


def problem(subject: str = "HTTPRoute default/reviews", code: Code = ConfigCode.BACKEND_NOT_FOUND) -> Problem:
    return Problem(FileOrigin("a.yaml", 1), subject, "spec", "is wrong", code)


@pytest.mark.parametrize(
    "text",
    [
        "PWP0103=HTTPRoute reviews.default",
        "PWP0103=HTTPRoute reviews.*",
        "PWP0103=HTTPRoute *",
        "PWP0103=*",
        "IST0101=HTTPRoute reviews.default",
        "*=HTTPRoute reviews.default",
    ],
)
def test_a_suppression_covers_what_it_names(text: str) -> None:
    assert Suppression.parse(text).covers(problem())


@pytest.mark.parametrize(
    "text",
    ["PWP0104=HTTPRoute *", "PWP0103=HTTPRoute ratings.*", "PWP0103=Service *", "PWP0103=httproute *", "IST0106=*"],
)
def test_a_suppression_covers_nothing_else(text: str) -> None:
    assert not Suppression.parse(text).covers(problem())


def test_what_has_no_namespace_is_named_without_one() -> None:
    of_namespace = problem("Namespace default", LintCode.ENROLLED_WITHOUT_MESH)

    assert Suppression.parse("PWP0305=Namespace default").covers(of_namespace)
    assert not Suppression.parse("PWP0305=Namespace default.*").covers(of_namespace)


@pytest.mark.parametrize("text", ["PWP0103", "PWP0103=", "=HTTPRoute a.b", "PWP9999=HTTPRoute a.b", "PWP01=*", ""])
def test_a_suppression_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a code|is not of the form"):
        Suppression.parse(text)


def test_an_ist_code_stands_for_all_codes_that_say_the_same() -> None:
    assert codes_named("IST0101") >= {ConfigCode.PARENT_NOT_FOUND, ConfigCode.BACKEND_NOT_FOUND}
    assert codes_named("*") == ALL
    assert codes_named("IST9999") == codes_named("") == frozenset()


def test_an_annotation_lists_codes_and_what_is_unknown_in_it_is_passed_over() -> None:
    route = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, annotations: {galley.istio.io/analyze-suppress: "PWP0103, IST0130,IST9999"}}
"""
    odd = "apiVersion: v1\nkind: Service\nmetadata: {name: b, annotations: {galley.istio.io/analyze-suppress: 5}}\n"

    found = annotated(documents_of(a=route, b=odd))

    assert found == {"HTTPRoute default/a": {ConfigCode.BACKEND_NOT_FOUND, ConfigCode.RULE_NEVER_MATCHES}}
