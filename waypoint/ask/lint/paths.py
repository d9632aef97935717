"""Policies by path that another spelling of the path gets past, as Istio's BASE normalization leaves them.

BASE keeps `//admin`, `/%2Fadmin` and `/Admin` apart from `/admin`; many applications don't. What is denied by its path
can be had by such a spelling then, and below what is allowed by a prefix stands `/public/..%2fadmin`. Only where the
setting merges slashes and decodes them is nothing told: letters of another case can be closed by no setting.
"""

from collections.abc import Iterator

from l4.config.documents import Document, Problem
from policies.path_normalization import PathNormalization
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject, items, mapping, problem

_CLOSES = "PATH_NORMALIZATION=DECODE_AND_MERGE_SLASHES"
_DENYING = frozenset({"DENY", "CUSTOM"})
_EVERYTHING = frozenset({"/*", "/{**}", "/{*}"})
"""Nobody can get past these, and nothing is left to allow."""


def lint(subject: Subject) -> Iterator[Problem]:
    """Of each policy the first place is told: what closes it closes the others."""
    normalization = PathNormalization(next((it.path_normalization for it in subject.snapshots), "BASE"))
    if normalization.mode == "DECODE_AND_MERGE_SLASHES":
        return
    for policy in subject.of_kind("AuthorizationPolicy"):
        if policy.key.group == "security.istio.io":
            found = next(_openings(policy, normalization), None)
            if found is not None:
                yield problem(policy, *found, LintCode.PATH_LEFT_OPEN)


def _openings(policy: Document, normalization: PathNormalization) -> Iterator[tuple[str, str]]:
    """Field and sentence. To deny what is not at a path is to allow what is, and the other way round."""
    spec = mapping(policy.content.get("spec"))
    action = str(spec.get("action", "ALLOW"))
    if action not in {"ALLOW", *_DENYING}:
        return
    for number, rule in items(spec.get("rules")):
        for index, to in items(rule.get("to")):
            operation = mapping(to.get("operation"))
            for name, denies in (("paths", action in _DENYING), ("notPaths", action not in _DENYING)):
                paths = operation.get(name)
                for place, path in enumerate(paths if isinstance(paths, list) else ()):
                    if not isinstance(path, str) or not path.startswith("/") or path in _EVERYTHING:
                        continue
                    sentence = _denied(path, normalization) if denies else _allowed(path)
                    if sentence:
                        yield f"spec.rules[{number}].to[{index}].operation.{name}[{place}]", sentence


def _denied(path: str, normalization: PathNormalization) -> str:
    begin = path.partition("*")[0].partition("{")[0]
    spellings = [f"/%2F{begin[1:]}", *([] if normalization.merges_slashes else [f"/{begin}"])]
    if (upper := begin.upper()) != begin:
        spellings.append(upper)
    told = ", ".join(sorted(spellings))
    return (
        f"requests for {told} get past it, and an application may take them for {begin}: set {_CLOSES}, which closes "
        "all but other cases of letters; to close these, too, ALLOW what may be had instead of denying the rest"
    )


def _allowed(path: str) -> str:
    """By an exact path nothing else is allowed."""
    if not path.endswith("*") and "{**}" not in path:
        return ""
    begin = path.partition("*")[0].partition("{")[0].rpartition("/")[0]
    return (
        f"it allows {begin}/..%2Fadmin, which an application may take for {begin.rpartition('/')[0]}/admin: set "
        f"{_CLOSES}"
    )
