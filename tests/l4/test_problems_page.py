from l4.config.codes import DocumentCode
from l4.config.documents import FileOrigin, ObjectKey, ObjectOrigin, Problem
from l4.problems_page import rows

KEY = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "reviews")


def test_a_problem_is_a_row_with_its_place_and_what_to_do() -> None:
    problem = Problem(FileOrigin("routes.yaml", 12), str(KEY), "spec.rules[0]", "there is no Service x")

    assert rows([problem, problem]) == [
        {
            "level": "Error",
            "code": str(DocumentCode.INVALID),
            "name": DocumentCode.INVALID.label,
            "place": "routes.yaml:12",
            "object": "HTTPRoute default/reviews",
            "field": "spec.rules[0]",
            "sentence": "there is no Service x",
        }
    ]


def test_errors_come_first_then_files_in_the_order_of_lines() -> None:
    warning = Problem(FileOrigin("a.yaml"), "a.yaml", "", "is empty", DocumentCode.FILE_EMPTY)
    late, early = (Problem(FileOrigin("b.yaml", line), str(KEY), "", "wrong") for line in (9, 2))
    on_server = Problem(ObjectOrigin(KEY, "7"), str(KEY), "", "wrong")

    assert [it["place"] for it in rows([on_server, warning, late, early])] == [
        "b.yaml:2",
        "b.yaml:9",
        "HTTPRoute default/reviews (resourceVersion 7)",
        "a.yaml",
    ]
