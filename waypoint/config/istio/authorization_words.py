"""Describe AuthorizationPolicy rules in words, for dumps and `explain`."""

from policies.access import Condition
from policies.authorization import All, Rule


def rule_words(rule: Rule) -> str:
    """Return e.g. `request.method in GET, HEAD and (source.namespace in a or source.ip in 10.0.0.0/8)`."""
    return " and ".join(_group(group) for group in rule.groups) or "everything"


def _group(group: tuple[All, ...]) -> str:
    texts = [" and ".join(map(condition_words, every)) or "everything" for every in group]
    return texts[0] if len(texts) == 1 else f"({' or '.join(texts)})"


def condition_words(condition: Condition) -> str:
    return f"{condition.key} {'not in' if condition.is_not else 'in'} {condition.values}"
