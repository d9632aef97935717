import pytest

from policies.balancing.endpoint import Endpoint
from policies.host_port import host_port


@pytest.mark.parametrize(
    ("host", "text"),
    [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80"), ("reviews.default", "reviews.default:80")],
)
def test_an_ipv6_address_has_brackets_beside_its_port(host: str, text: str) -> None:
    assert host_port(host, 80) == text
    assert str(Endpoint(host, 80, None)) == text
