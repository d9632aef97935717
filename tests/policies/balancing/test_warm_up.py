import pytest

from policies.balancing.warm_up import WarmUp


@pytest.mark.parametrize(
    ("warm_up", "age", "share"),
    [
        (WarmUp(100), 0.0, 0.1),
        (WarmUp(100), 50.0, 0.5),
        (WarmUp(100), 100.0, 1.0),
        (WarmUp(100), 1e6, 1.0),
        (WarmUp(100, min_percent=40), 20.0, 0.4),
        (WarmUp(100, aggression=2), 25.0, 0.5),
    ],
)
def test_an_endpoints_share_grows_with_its_age(warm_up: WarmUp, age: float, share: float) -> None:
    assert warm_up.share(age) == pytest.approx(share)
