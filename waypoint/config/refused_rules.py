"""Rules that cannot be decoded: their requests get 500, or their connections are closed.

Without the rule, the route would send its requests to an unintended destination.
"""

from collections.abc import Callable, Mapping
from typing import Any

from l4.config.resources import RuleList
from waypoint.config.codes import ConfigCode

StandIn = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def http_rules(kind: Any, stands_in: StandIn) -> RuleList:
    return RuleList(kind, stands_in, "is answered with 500", ConfigCode.RULE_INVALID)


def l4_rules(kind: Any, stands_in: StandIn, check: Callable[[Any, Mapping[str, Any]], None] | None = None) -> RuleList:
    return RuleList(kind, stands_in, "is closed at once", ConfigCode.RULE_INVALID, check)
