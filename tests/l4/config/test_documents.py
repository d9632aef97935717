"""The origin of a document, a file or an API server, and its form in problems."""

import logging

import pytest

from l4.config.difference import Difference
from l4.config.documents import Document, FileOrigin, ObjectKey, ObjectOrigin, Origin, Problem
from l4.config.resources import locate
from l4.config.telling import ChangeWords, Telling
from waypoint.ask.analyze import LEVELS
from waypoint.ask.lines import Lines
from waypoint.ask.listing import as_json, log_lines

ROUTE = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "reviews")
NAMESPACE = ObjectKey("", "Namespace", "", "default")
IN_FILE, AT_SERVER = FileOrigin("mesh.yaml", 12), ObjectOrigin(ROUTE, "4711")


def problem(origin: Origin, subject: str = str(ROUTE)) -> Problem:
    return Problem(origin, subject, "spec.rules[0]", "is wrong")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (problem(IN_FILE), "mesh.yaml:12: HTTPRoute default/reviews spec.rules[0]: is wrong [PWP0001]"),
        (problem(AT_SERVER), "HTTPRoute default/reviews (resourceVersion 4711) spec.rules[0]: is wrong [PWP0001]"),
        (
            problem(ObjectOrigin(NAMESPACE, "7"), "Service default/app"),
            "Service default/app (Namespace default, resourceVersion 7) spec.rules[0]: is wrong [PWP0001]",
        ),
        (Problem(FileOrigin("bad.yaml"), "bad.yaml", "", "cannot be read"), "bad.yaml: bad.yaml: cannot be read"),
    ],
    ids=["file", "object", "object because of another", "whole file"],
)
def test_a_problem_says_where_it_is_whatever_that_is(told: Problem, text: str) -> None:
    assert str(told).startswith(text)


def test_problems_of_files_and_of_objects_stand_in_one_list() -> None:
    other = ObjectOrigin(NAMESPACE, "7")

    assert sorted([problem(AT_SERVER), problem(other), problem(IN_FILE)]) == [
        problem(IN_FILE),
        problem(other),
        problem(AT_SERVER),
    ]


def test_a_problem_that_stays_in_the_next_version_of_its_object_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telling = Telling(logging.getLogger("tests.documents"))

    for version in ("4711", "4712"):
        telling.tell([problem(ObjectOrigin(ROUTE, version))])

    assert len(caplog.records) == 1


def test_changes_are_named_with_the_version_of_their_object() -> None:
    changes = ChangeWords()
    changes.accept()

    changes.note(Difference(((None, Document(ROUTE, {"spec": {}}, AT_SERVER)),)))

    assert changes.words() == "new: HTTPRoute default/reviews (resourceVersion 4711)"


def test_a_field_of_an_object_of_an_api_server_has_no_line() -> None:
    assert locate(AT_SERVER, "spec.rules[0]") is AT_SERVER
    assert Lines({}).located([problem(AT_SERVER)]) == [problem(AT_SERVER)]


def test_the_listing_of_an_analysis_names_the_object_once() -> None:
    assert list(log_lines([problem(AT_SERVER)], lambda text, _: text)) == [
        f"{LEVELS[0]} [PWP0001] (HTTPRoute default/reviews spec.rules[0]) resourceVersion 4711 is wrong"
    ]
    assert '"reference": "HTTPRoute default/reviews (resourceVersion 4711)"' in as_json([problem(AT_SERVER)])
