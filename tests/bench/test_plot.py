from xml.etree import ElementTree

from bench.plot import ratios
from bench.report import Outcome

SVG = "{http://www.w3.org/2000/svg}"


def outcome(**figures: tuple[float, float]) -> Outcome:
    made = Outcome({}, {})
    for name, (ours, envoy) in figures.items():
        made.pairs[name] = [{"ours": {"x": ours}, "peer": {"x": envoy}}]
    return made


def test_each_ratio_has_a_dot_and_better_ones_are_further_left() -> None:
    plot = ElementTree.fromstring(ratios(outcome(a=(1, 2), b=(2, 2), c=(4, 2))))

    places = [float(it.attrib["cx"]) for it in plot.iter(f"{SVG}circle")]
    assert places == sorted(places)
    assert len(set(places)) == 3


def test_a_ratio_beyond_the_axis_is_drawn_at_its_end() -> None:
    plot = ElementTree.fromstring(ratios(outcome(a=(400, 1), b=(4, 1))))

    assert len({it.attrib["cx"] for it in plot.iter(f"{SVG}circle")}) == 1


def test_a_figure_without_a_ratio_is_left_out_and_names_are_escaped() -> None:
    made = outcome(a=(1, 0))
    made.pairs["p < 1 & q"] = [{"ours": {"x": 1.0}, "peer": {"x": 1.0}}]

    texts = [it.text for it in ElementTree.fromstring(ratios(made)).iter(f"{SVG}text")]

    assert "p < 1 & q: x" in texts
    assert "a: x" not in texts
