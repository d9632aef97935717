"""Evaluate the AuthorizationPolicies of one destination.

    CUSTOM (ask its provider) → AUDIT (only logged) → DENY (any matching rule) → ALLOW (if any exists, one must match)

A policy without rules matches nothing, so an ALLOW without rules denies everything. A rule without conditions matches
everything. If several rules match, the first by name decides, as in Envoy, whose policy table is sorted. Policies in
dry-run mode (`istio.io/dry-run`) are only noted beside the verdict and never change it.
https://istio.io/latest/docs/concepts/security/#authorization-policies
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from typing import Self

from policies.access import Access, Condition, Header, Seen

All = tuple[Condition, ...]
"""Conditions that must all hold."""


class Action(StrEnum):
    CUSTOM = "CUSTOM"
    AUDIT = "AUDIT"
    DENY = "DENY"
    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule matches if one alternative of each group holds. Groups are sources, operations, and each `when` clause."""

    index: int
    groups: tuple[tuple[All, ...], ...] = ()

    def matches(self, access: Access) -> bool:
        return all(any(all(it.holds(access) for it in every) for every in group) for group in self.groups)

    def within(self, seen: Seen) -> Self:
        """Return the rule without conditions that need to see more than `seen`. It then matches at least as much."""
        groups = tuple(tuple(tuple(it for it in every if it.sees <= seen) for every in group) for group in self.groups)
        return replace(self, groups=groups)

    def left_by(self, connection: Access) -> Self | None:
        """Return the rule without the conditions that the connection has fulfilled, or None if it cannot match."""
        groups = []
        for group in self.groups:
            alternatives = [rest for every in group if (rest := _left_by(connection, every)) is not None]
            if not alternatives:
                return None
            if () not in alternatives:
                groups.append(tuple(alternatives))
        return replace(self, groups=tuple(groups))


@dataclass(frozen=True, slots=True)
class Policy:
    """One AuthorizationPolicy. `provider` is the extension provider to ask if the action is CUSTOM."""

    namespace: str
    name: str
    action: Action
    rules: tuple[Rule, ...]
    is_dry_run: bool = False
    provider: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Named:
    """A rule with its policy and its name in Envoy's format."""

    name: str
    policy: Policy
    index: int


@dataclass(frozen=True, slots=True)
class OpenRule:
    """A rule, or what a connection leaves open of it, with what it is called."""

    named: Named
    rule: Rule
    matches: Callable[[Access], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", _matcher(self.rule))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of authorization.

    `rule` is the rule that denied or allowed. It is None if no ALLOW rule matched, or if there is no ALLOW policy. For
    the access log, `audited` holds the AUDIT rules that matched, and `shadow` the results of dry-run policies.
    """

    is_allowed: bool
    rule: Named | None = None
    audited: tuple[Named, ...] = ()
    shadow: tuple["Shadow", ...] = ()

    @property
    def detail(self) -> str:
        """The response code details that Envoy logs for a denial."""
        return f"rbac_access_denied_matched_policy[{self.rule.name if self.rule is not None else 'none'}]"


@dataclass(frozen=True, slots=True)
class Shadow:
    """The result that the dry-run policies of one action would have had, and the rule that decided it."""

    action: Action
    is_allowed: bool
    rule: Named | None

    def __str__(self) -> str:
        result = "allowed" if self.is_allowed else "denied"
        return f"{self.action.lower()}:{result}:{self.rule.name if self.rule is not None else 'none'}"


ALLOWED = Verdict(True)
NOT_ALLOWED = Verdict(False)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules to evaluate, by action and sorted by name. `allow` is None without ALLOW policies.

    `trials` are those of dry-run policies. `verdict` is the result if it is the same for every request, else None.
    """

    custom: tuple[OpenRule, ...]
    audit: tuple[OpenRule, ...]
    deny: tuple[OpenRule, ...]
    allow: tuple[OpenRule, ...] | None
    trials: tuple[tuple[Action, tuple[OpenRule, ...]], ...]
    verdict: Verdict | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", self._same_for_all())

    def left_by(self, connection: Access) -> "Rules":
        """Return the rules that depend on the requests of a connection. Its peer and address decide the others.

        `connection` is an access without a head.
        """
        return Rules(
            _open(self.custom, connection),
            _open(self.audit, connection),
            _open(self.deny, connection),
            _open(self.allow, connection) if self.allow is not None else None,
            tuple((action, _open(rules, connection)) for action, rules in self.trials),
        )

    def custom_providers(self, access: Access, granted: Container[str] = ()) -> tuple[str, ...]:
        """Names of the providers still to ask about this access, without duplicates.

        All of them must allow the access before `judge` applies. Those in `granted` have allowed it: their rules are
        not matched again.
        """
        found: dict[str, None] = {}
        for rule in self.custom:
            provider = rule.named.policy.provider
            if provider not in granted and provider not in found and rule.matches(access):
                found[provider] = None
        return tuple(found)

    def judge(self, access: Access) -> Verdict:
        if self.verdict is not None:
            return self.verdict
        verdict = self._judge(access)
        if not self.audit and not self.trials:
            return verdict
        audited = tuple(rule.named for rule in self.audit if rule.matches(access))
        return replace(verdict, audited=audited, shadow=tuple(self._shadows(access)))

    def _judge(self, access: Access) -> Verdict:
        for rule in self.deny:
            if rule.matches(access):
                return Verdict(False, rule.named)
        if self.allow is None:
            return ALLOWED
        for rule in self.allow:
            if rule.matches(access):
                return Verdict(True, rule.named)
        return NOT_ALLOWED

    def _shadows(self, access: Access) -> Iterator[Shadow]:
        for action, rules in self.trials:
            rule = next((rule.named for rule in rules if rule.matches(access)), None)
            yield Shadow(action, (rule is None) is (action is Action.DENY), rule)

    def _same_for_all(self) -> Verdict | None:
        if self.audit or self.trials:
            return None
        if self.deny:
            return None if self.deny[0].rule.groups else Verdict(False, self.deny[0].named)
        if self.allow is None:
            return ALLOWED
        if not self.allow:
            return NOT_ALLOWED
        return None if self.allow[0].rule.groups else Verdict(True, self.allow[0].named)


@dataclass(frozen=True, slots=True)
class Authorization:
    """All policies of one destination, in any order.

    `exempt` policies are ALLOW rules that take effect only if there are ALLOW policies in `policies`.
    """

    policies: tuple[Policy, ...]
    exempt: tuple[Policy, ...] = ()
    rules: Rules = field(init=False, repr=False, compare=False)
    header_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Names of headers that conditions look at."""

    def __post_init__(self) -> None:
        enforced = [it for it in self.policies if not it.is_dry_run]
        trials = [it for it in self.policies if it.is_dry_run and it.action in {Action.DENY, Action.ALLOW}]
        has_allow = any(it.action is Action.ALLOW for it in enforced)
        rules = Rules(
            _open_rules(enforced, Action.CUSTOM),
            _open_rules(enforced, Action.AUDIT),
            _open_rules(enforced, Action.DENY),
            _open_rules((*enforced, *self.exempt), Action.ALLOW) if has_allow else None,
            tuple((it, _open_rules(trials, it)) for it in sorted({policy.action for policy in trials})),
        )
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "header_names", frozenset(_header_names(self.policies)))

    def judge(self, access: Access) -> Verdict:
        return self.rules.judge(access)

    def custom_providers(self, access: Access, granted: Container[str] = ()) -> tuple[str, ...]:
        return self.rules.custom_providers(access, granted)

    def for_bytes(self) -> Self:
        """Return the authorization for raw TCP bytes, where HTTP fields are unknown.

        ALLOW rules with HTTP conditions never match. Other rules are evaluated without their HTTP conditions, so more
        is denied.
        """
        return replace(self, policies=tuple(_within(it, Seen.CONNECTION, is_strict=True) for it in self.policies))

    def for_those_under_way(self) -> Self:
        """Return the authorization for requests that were forwarded earlier, whose headers and token are no longer
        known.

        It denies a request only if the request would be denied with any headers and any token.
        """
        policies = (it for it in self.policies if it.action in {Action.DENY, Action.ALLOW} and not it.is_dry_run)
        return replace(self, policies=tuple(_within(it, Seen.TARGET, is_strict=False) for it in policies))


def _header_names(policies: Iterable[Policy]) -> Iterator[bytes]:
    for policy in policies:
        for rule in policy.rules:
            conditions = chain.from_iterable(chain.from_iterable(rule.groups))
            yield from (it.name for it in conditions if isinstance(it, Header))


def _within(policy: Policy, seen: Seen, *, is_strict: bool) -> Policy:
    """Narrow the policy's rules to the conditions that can be evaluated.

    Narrowed rules that would match too much are dropped: ALLOW rules if `is_strict`, DENY rules otherwise.
    """
    drops = (policy.action is Action.ALLOW) is is_strict
    rules = ((rule, rule.within(seen)) for rule in policy.rules)
    return replace(policy, rules=tuple(narrowed for rule, narrowed in rules if not drops or narrowed == rule))


def _open_rules(policies: Iterable[Policy], action: Action) -> tuple[OpenRule, ...]:
    its = (
        OpenRule(Named(f"ns[{it.namespace}]-policy[{it.name}]-rule[{rule.index}]", it, rule.index), rule)
        for it in policies
        if it.action is action
        for rule in it.rules
    )
    return tuple(sorted(its, key=lambda it: it.named.name))


def _matcher(rule: Rule) -> Callable[[Access], bool]:
    """Return a faster equivalent of `rule.matches` for the common case that each group has one alternative."""
    every = tuple(it.holds for group in rule.groups if len(group) == 1 for it in group[0])
    if any(len(group) != 1 for group in rule.groups):
        return rule.matches
    if len(every) == 1:
        return every[0]

    def matches(access: Access) -> bool:
        for holds in every:  # noqa: SIM110 - a generator costs twice as much
            if not holds(access):
                return False
        return True

    return matches


def _open(rules: tuple[OpenRule, ...], connection: Access) -> tuple[OpenRule, ...]:
    return tuple(OpenRule(it.named, rest) for it in rules if (rest := it.rule.left_by(connection)) is not None)


def _left_by(connection: Access, every: All) -> All | None:
    """The conditions that the connection leaves open, or None if it does not fulfil one."""
    if all(it.holds(connection) for it in every if it.sees is Seen.CONNECTION):
        return tuple(it for it in every if it.sees is not Seen.CONNECTION)
    return None
