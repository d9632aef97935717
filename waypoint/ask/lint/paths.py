"""Path policies that can be evaded by another spelling of the path under Istio's BASE normalization.

BASE distinguishes `//admin`, `/%2Fadmin` and `/Admin` from `/admin`; many applications do not. Such spellings evade a
DENY, and `/public/..%2fadmin` is below an allowed prefix `/public`. Nothing is reported if the setting merges and
decodes slashes. No setting can prevent evasion by upper and lower case.
"""

from collections.abc import Iterator

from l4.config.documents import Document, Problem
from policies.path_normalization import PathNormalization
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject, items, mapping, problem

_CLOSES = "PATH_NORMALIZATION=DECODE_AND_MERGE_SLASHES"
_DENYING = frozenset({"DENY", "CUSTOM"})
_EVERYTHING = frozenset({"/*", "/{**}", "/{*}"})
"""These paths cannot be evaded, and leave nothing else to allow."""


def lint(subject: Subject) -> Iterator[Problem]:
    """Report only the first place of each policy, because its remedy fixes the others."""
    normalization = PathNormalization(next((it.path_normalization for it in subject.snapshots), "BASE"))
    if normalization.mode == "DECODE_AND_MERGE_SLASHES":
        return
    for policy in subject.of_kind("AuthorizationPolicy"):
        if policy.key.group == "security.istio.io":
            found = next(_openings(policy, normalization), None)
            if found is not None:
                yield problem(policy, *found, LintCode.PATH_LEFT_OPEN)


def _openings(policy: Document, normalization: PathNormalization) -> Iterator[tuple[str, str]]:
    """Yield field and sentence. To deny all but a path means to allow that path, and vice versa."""
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
        f"requests for {told} are not covered, but an application may treat them as {begin}: set {_CLOSES}, which "
        "covers all but upper and lower case; to cover that too, ALLOW the permitted paths instead of denying the rest"
    )


def _allowed(path: str) -> str:
    """An exact path allows nothing else."""
    if not path.endswith("*") and "{**}" not in path:
        return ""
    begin = path.partition("*")[0].partition("{")[0].rpartition("/")[0]
    return (
        f"it allows {begin}/..%2Fadmin, which an application may treat as {begin.rpartition('/')[0]}/admin: set "
        f"{_CLOSES}"
    )
