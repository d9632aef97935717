"""The rules that redirect a pod's connections to the ztunnel's sockets in its network namespace, and the node's rule.

In a pod, TCP connections that leave go to port 15001, and those that arrive, except HBONE, to 15006. Packets of the
ztunnel's own sockets are marked and left alone. Connections from the ztunnel to the application have the client's
address; the answers to them are marked by their connection and routed back to the ztunnel.

On the node, connections of its own processes to pods, such as the kubelet's probes, get a source address by which the
pods' rules leave them alone.
"""

from collections.abc import Iterable

from l4.net.network import MARK, CommandFailed, Network

PROBES_V4 = "169.254.7.127"
PROBES_V6 = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"

_TABLE = "pywaypoint"
_NODE_TABLE = "pywaypoint_node"
_CONNECTION_MARK = 0x111
_MASK = 0xFFF
_ROUTES = "100"
_PREFERENCE = "32764"

_OWN = f"meta mark and {_MASK:#x} == {MARK:#x}"
_OTHERS = f"meta mark and {_MASK:#x} != {MARK:#x}"
_OPENING = "tcp flags & (fin | syn | rst | ack) == syn"
"""Connections that were open before the rules came are new to the kernel's tracking too, and must not be redirected."""
_ANSWERS = f"ct mark and {_MASK:#x} == {_CONNECTION_MARK:#x}"

_IN_POD = f"""\
table inet {_TABLE}
delete table inet {_TABLE}
table inet {_TABLE} {{
    chain arriving_marks {{
        type filter hook prerouting priority -150
        {_OWN} ct mark set {_CONNECTION_MARK:#x}
    }}
    chain leaving_marks {{
        type route hook output priority -150
        {_ANSWERS} meta mark set ct mark
    }}
    chain arriving {{
        type nat hook prerouting priority -100
        ip saddr {PROBES_V4} meta l4proto tcp accept
        ip6 saddr {PROBES_V6} meta l4proto tcp accept
        ip daddr != 127.0.0.1 {_OPENING} tcp dport != 15008 {_OTHERS} redirect to :15006
        ip6 daddr != ::1 {_OPENING} tcp dport != 15008 {_OTHERS} redirect to :15006
    }}
    chain leaving {{
        type nat hook output priority -100
        ip daddr {PROBES_V4} meta l4proto tcp accept
        ip6 daddr {PROBES_V6} meta l4proto tcp accept
        meta l4proto tcp meta mark and {_MASK:#x} == {_CONNECTION_MARK:#x} accept
        oifname "lo" ip daddr != 127.0.0.1 accept
        oifname "lo" ip6 daddr != ::1 accept
        ip daddr != 127.0.0.1 {_OPENING} {_OTHERS} redirect to :15001
        ip6 daddr != ::1 {_OPENING} {_OTHERS} redirect to :15001
    }}
}}
"""


def redirect(network: Network) -> None:
    """Install the rules of a pod, in place of older ones. Blocks. Raises CommandFailed."""
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        try:
            _route(network, family, everything)
        except CommandFailed:
            if family == "-4":
                raise  # IPv6 may be disabled
    network.run(["nft", "-f", "-"], _IN_POD)


def _route(network: Network, family: str, everything: str) -> None:
    network.run(["ip", family, "route", "replace", "local", everything, "dev", "lo", "table", _ROUTES])
    if f"lookup {_ROUTES}" not in network.run(["ip", family, "rule", "show", "pref", _PREFERENCE]):
        network.run(["ip", family, "rule", "add", *_rule()])


def leave_alone(network: Network) -> None:
    """Remove the rules of a pod. Blocks. Raises CommandFailed."""
    network.run(["nft", "-f", "-"], f"table inet {_TABLE}\ndelete table inet {_TABLE}\n")
    for family in ("-4", "-6"):
        try:
            _unroute(network, family)
        except CommandFailed:
            if family == "-4":
                raise  # IPv6 may be disabled


def _unroute(network: Network, family: str) -> None:
    if f"lookup {_ROUTES}" in network.run(["ip", family, "rule", "show", "pref", _PREFERENCE]):
        network.run(["ip", family, "rule", "del", *_rule()])
        network.run(["ip", family, "route", "flush", "table", _ROUTES])


def _rule() -> list[str]:
    return ["fwmark", f"{_CONNECTION_MARK:#x}/{_MASK:#x}", "pref", _PREFERENCE, "lookup", _ROUTES]


def mark_probes(node: Network, pods: Iterable[str]) -> None:
    """Install the node's rule for the addresses of its redirected pods, in place of the one before. Blocks.

    Raises CommandFailed.
    """
    addresses = sorted(set(pods))
    chains = (
        _probes("ip", "v4", PROBES_V4, [it for it in addresses if ":" not in it]),
        _probes("ip6", "v6", PROBES_V6, [it for it in addresses if ":" in it]),
    )
    # In one transaction: there is no moment without the rule.
    table = f"table inet {_NODE_TABLE}\ndelete table inet {_NODE_TABLE}\n"
    node.run(["nft", "-f", "-"], table + "".join(chains) if addresses else table)


def _probes(family: str, version: str, source: str, pods: list[str]) -> str:
    if not pods:
        return ""
    return f"""\
table inet {_NODE_TABLE} {{
    chain probes_{version} {{
        type nat hook postrouting priority 90
        meta l4proto tcp fib saddr type local {family} daddr {{ {", ".join(pods)} }} snat {family} to {source}
    }}
}}
"""
