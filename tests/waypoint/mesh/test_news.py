import pytest

from waypoint.mesh.news import News

PROBLEM = "/x/routes.yaml:9: HTTPRoute default/reviews spec.rules[0].backendRefs[0]: there is no Service v9 [PWP0103]"
MOVED = PROBLEM.replace(":9:", ":12:")


def line(text: str, level: str = "WARNING", name: str = "waypoint.process.following") -> str:
    return f"2026-01-01 12:00:00,000 {level} {name}: {text}"


class Terminal:
    def __init__(self) -> None:
        self.shown: list[tuple[str, bool]] = []
        self.news = News(lambda sentence, is_good: self.shown.append((sentence, is_good)))


def test_a_problem_shows_once_whichever_proxies_find_it_and_once_more_when_it_is_gone() -> None:
    it = Terminal()

    it.news.take("waypoint a", line(PROBLEM))
    it.news.take("ztunnel", line(MOVED, name="l4.ztunnel.app"))
    it.news.take("waypoint a", line(f"resolved: {MOVED}", "INFO"))
    it.news.take("ztunnel", line(f"resolved: {PROBLEM}", "INFO", "l4.ztunnel.app"))
    it.news.take("waypoint a", line(PROBLEM))

    assert it.shown == [(PROBLEM, False), (f"resolved: {MOVED}", True), (PROBLEM, False)]


def test_what_was_told_before_is_not_told_again() -> None:
    it = Terminal()
    it.news.already_told([PROBLEM])

    it.news.take("ztunnel", line(MOVED))

    assert it.shown == []


def test_what_became_live_shows_once_and_without_pods() -> None:
    it = Terminal()
    change = (
        "configuration abc is live: 4 destinations; new: HTTPRoute default/a (/x/a.yaml:1); "
        "changed: Service default/b (/x/b.yaml:2), Pod default/c-0 (/run/overlay/mesh.yaml:3); gone: Pod default/d-0"
    )

    it.news.take("waypoint a", line(change, "INFO"))
    it.news.take("waypoint b", line(change, "INFO"))

    assert it.shown == [("live: new HTTPRoute default/a (/x/a.yaml:1); changed Service default/b (/x/b.yaml:2)", True)]


@pytest.mark.parametrize(
    "text",
    [
        line("configuration abc is live: 4 destinations", "INFO"),
        line("configuration abc is live: 4 destinations; new: Pod default/c-0 (/run/overlay/mesh.yaml:3)", "INFO"),
        line("connection refused", "WARNING", "l4.hbone.server"),
        "Traceback (most recent call last):",
        "",
    ],
)
def test_other_lines_are_no_news(text: str) -> None:
    it = Terminal()

    it.news.take("waypoint a", text)

    assert it.shown == []
