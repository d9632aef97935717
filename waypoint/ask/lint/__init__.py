"""Lints: valid configuration that is probably not intended. Pure functions, one module per subject.

Lints do not change the configuration. A lint reports only what is certain as far as the given objects show: a rule that
is reported as unreachable never matches. Each kind of finding has a code in `l4.config.codes`.
"""

from l4.config.documents import Problem
from waypoint.ask.lint import (
    bindings,
    canaries,
    destination_rules,
    outliers,
    paths,
    policies,
    redirects,
    routes,
    security,
    services,
    virtual_services,
)
from waypoint.ask.lint.subject import Subject

__all__ = ["Subject", "lint"]

_LINTS = (
    *(routes.lint, redirects.lint, virtual_services.lint),
    *(bindings.lint, canaries.lint, services.lint, destination_rules.lint, outliers.lint),
    *(security.lint, paths.lint, policies.lint),
)


def lint(subject: Subject) -> list[Problem]:
    """Return all findings, without duplicates and unordered."""
    return list({problem: None for each in _LINTS for problem in each(subject)})
