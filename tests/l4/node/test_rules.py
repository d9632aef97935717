"""The rules of redirection come and go as a whole, and leave those of others alone."""

import os

import pytest

from l4.net.network import CommandFailed, Network
from l4.node import rules
from tests.kit.pod_network import namespace, needs_namespaces

pytestmark = needs_namespaces

_OTHERS = """
    table inet others {
        chain input {
            type filter hook input priority 0
            tcp dport 7 drop
        }
    }
"""


def state(network: Network) -> str:
    commands = (
        ["nft", "list", "ruleset"],
        ["ip", "-4", "rule"],
        ["ip", "-6", "rule"],
        ["ip", "-4", "route", "show", "table", "all"],
    )
    return "".join(network.run(it) for it in commands)


def test_rules_can_be_installed_twice_and_are_removed_without_a_trace() -> None:
    with namespace() as (network, _):
        network.run(["ip", "link", "set", "lo", "up"])
        network.run(["nft", "-f", "-"], _OTHERS)
        network.run(["ip", "rule", "add", "fwmark", "0x7", "lookup", "107"])
        before = state(network)
        rules.redirect(network)
        first = state(network)
        assert first != before
        rules.redirect(network)
        assert state(network) == first
        rules.leave_alone(network)
        assert state(network) == before
        rules.leave_alone(network)
        assert state(network) == before


def test_the_nodes_rule_names_just_the_pods_it_is_for() -> None:
    with namespace() as (network, _):
        before = state(network)
        rules.mark_probes(network, ["10.0.0.1", "fd00::1"])
        rules.mark_probes(network, ["10.0.0.3", "10.0.0.2"])
        listed = network.run(["nft", "list", "ruleset"])
        assert "ip daddr { 10.0.0.2, 10.0.0.3 } snat ip to 169.254.7.127" in listed
        assert "10.0.0.1" not in listed
        assert "fd00::1" not in listed
        rules.mark_probes(network, [])
        assert state(network) == before


def test_a_program_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with namespace() as (network, _):
        before = state(network)
        monkeypatch.setitem(os.environ, "PATH", "")
        with pytest.raises(CommandFailed, match="cannot be run"):
            rules.redirect(network)
        monkeypatch.undo()
        assert state(network) == before
