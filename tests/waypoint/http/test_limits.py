from dataclasses import fields

import pytest

from l4.config.settings import Settings
from l4.http2.flood_limits import FloodLimits
from waypoint.http.limits import inner_limits_of, inner_reason
from waypoint.http.settings import HttpSettings


@pytest.mark.parametrize("name", [field.name for field in fields(FloodLimits)])
def test_every_setting_against_floods_arrives_at_the_guard_inside_of_a_tunnel(name: str) -> None:
    settings = Settings.from_environment({name.upper(): "7"}, [FloodLimits, HttpSettings])

    assert getattr(inner_limits_of(settings).flood, name) == 7


@pytest.mark.parametrize("reason", ["max_concurrent_streams", "max_header_list_size", "max_header_fields"])
def test_a_refusal_is_counted_under_the_name_of_a_setting(reason: str) -> None:
    assert hasattr(HttpSettings(), inner_reason(reason))


def test_a_malformed_message_is_counted_as_such() -> None:
    assert inner_reason("") == "malformed_http"
