import pytest

from waypoint.mesh.ingress import Ingress


@pytest.mark.parametrize(
    ("text", "ingress"),
    [
        ("productpage", Ingress("default", "productpage", 0, ("127.0.0.1", 9080))),
        ("shop/front:8080", Ingress("shop", "front", 8080, ("127.0.0.1", 9080))),
        ("front:80=127.0.0.5:8000", Ingress("default", "front", 80, ("127.0.0.5", 8000))),
    ],
)
def test_an_ingress_names_a_service_and_where_to_listen(text: str, ingress: Ingress) -> None:
    assert Ingress.parse(text) == ingress


def test_each_further_ingress_has_the_next_port() -> None:
    assert Ingress.parse("front", position=2).listen == ("127.0.0.1", 9082)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/front",
        "front:",
        "front:http",
        "front=127.0.0.1",
        "front:70000",
        "front:٨٠",
        "front=127.0.0.1:٨٠",
        "front=:80",
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form|instead of a port"):
        Ingress.parse(text)
