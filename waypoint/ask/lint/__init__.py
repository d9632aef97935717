"""What is valid and yet hardly meant: pure functions over a configuration, each a module by what it looks at.

Nothing here changes what is carried out. A lint speaks up only where it is certain as far as the objects at hand tell:
a rule that it calls unreachable never matches. Each kind of finding has its code in `l4.config.codes`.
"""

from l4.config.documents import Problem
from waypoint.ask.lint import (
    bindings,
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
    *(bindings.lint, services.lint, destination_rules.lint, outliers.lint),
    *(security.lint, paths.lint, policies.lint),
)


def lint(subject: Subject) -> list[Problem]:
    """All that the lints find, each once, in no particular order."""
    return list({problem: None for each in _LINTS for problem in each(subject)})
