"""Describe parts of a configuration in short texts, in the API's own terms."""

from policies.attributes import ClusterName
from policies.matching import Prefix, Regex, StringMatch
from policies.path_match import PathKind, PathMatch
from policies.selector import (
    Condition,
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
)


def text(value: bytes) -> str:
    """Return text that comes from a client or goes to an endpoint. Everything but printable ASCII is escaped."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in value)


def cluster_name(cluster: ClusterName) -> str:
    """Shorten Envoy's `inbound-vip|9080|http|reviews.default.svc.cluster.local` to `reviews.default:9080`."""
    parts = cluster.split("|")
    return f"{parts[3].partition('.svc.')[0]}:{parts[1]}" if len(parts) == 4 else cluster


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def path_words(path: PathMatch) -> str:
    """Return, for example, `path prefix /v2`."""
    value = text(path.value)
    match path.kind:
        case PathKind.EXACT:
            return f"path = {value}"
        case PathKind.PREFIX:
            return f"path prefix {value}" if path.prefix else "every path"
        case PathKind.TEXT_PREFIX:
            return f"path = {value}*"
        case PathKind.REGEX:
            return f"path ~ {value}"


def wanted(match: StringMatch) -> str:
    """Return, for example, `= jason`."""
    star = "*" if isinstance(match, Prefix) else ""
    return f"{'~' if isinstance(match, Regex) else '='} {text(match.value)}{star}"


def conditions_words(conditions: tuple[Condition, ...]) -> str:
    """Return, for example, ` for clients of default/page`; empty if there are no conditions."""
    return f" for {', '.join(map(condition_words, conditions))}" if conditions else ""


def condition_words(condition: Condition) -> str:
    """Describe a condition. `each` marks a value that is counted separately."""
    match condition:
        case HeaderCondition(name, match, is_inverted):
            return f"header {_wanted(name, match, 'not ' if is_inverted else '')}"
        case QueryCondition(name, match):
            return f"query {_wanted(name, match)}"
        case PathCondition(match):
            return "each path" if match is None else path_words(match)
        case MethodCondition(methods):
            return f"method {text(b' or '.join(methods))}"
        case SourceCondition(network, is_distinct):
            return f"{'each address of' if is_distinct else 'clients in'} {network}"
        case IdentityCondition(namespaces, accounts, principals, is_distinct):
            whom = ", ".join(" or ".join(its) for its in (namespaces, accounts, principals) if its)
            return f"{'each client' if is_distinct else 'clients'}{f' of {whom}' if whom else ''}"
    return ""


def _wanted(name: bytes, match: StringMatch | None, negation: str = "") -> str:
    return f"{text(name)} {negation}{wanted(match)}" if match is not None else f"{text(name)}, each value"
