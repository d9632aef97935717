import pytest

from policies.attributes import ClusterName
from policies.mirror import Mirror


@pytest.mark.parametrize(
    ("numerator", "denominator", "roll", "is_taken"),
    [
        (100, 100, 0.999999, True),
        (0, 100, 0.0, False),
        (30, 100, 0.2999, True),
        (30, 100, 0.3, False),
        (1, 3, 0.33, True),
        (1, 3, 0.34, False),
    ],
)
def test_a_mirror_takes_its_share(numerator: int, denominator: int, roll: float, is_taken: bool) -> None:
    assert Mirror(ClusterName("v3"), numerator, denominator).takes(roll) is is_taken
