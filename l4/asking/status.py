"""The answer of `status`, for both programs."""

from collections.abc import Iterable, Mapping
from typing import Any

from l4.asking.output import age, size

_OWN = {"program", "version", "ready", "pending", "concerns", "uptime_seconds", "memory_bytes"}
_DETAILS = {"python", "pid", "host", "started", "open_files", "log_level", "workers"}


def status_text(name: str, found: Mapping[str, Any]) -> str:
    """Return the lines about one program. The first says whether it is ready."""
    if "error" in found:
        return f"{name}: not ready\n  ! {found['error']}"
    pending = ", ".join(found["pending"])
    state = "ready" if found["ready"] else f"not ready, pending: {pending}"
    lines = [f"{name}: {state}"]
    lines += [f"  ! {sentence}" for sentence in found["concerns"].values()]
    facts = {
        "version": f"{found.get('program', '')} {found.get('version', '')}, Python {found['python']}",
        **{key.replace("_", " "): value for key, value in found.items() if key not in _OWN | _DETAILS},
        "running for": f"{age(found['uptime_seconds'])}, process {found['pid']} on {found['host']}",
        "memory": f"{size(found['memory_bytes'])}, {found['open_files']} open files",
        "log level": found["log_level"],
    }
    workers = found.get("workers", [])
    if len(workers) > 1:
        facts["workers"] = "; ".join(_worker(it) for it in workers)
    width = max(map(len, facts))
    return "\n".join([*lines, *(f"  {key:<{width}}  {value}" for key, value in facts.items())])


def statuses_text(found: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    return "\n\n".join(status_text(*it) for it in found)


def _worker(it: Mapping[str, Any]) -> str:
    return f"{it['name']}: {it['connections']} connections, {it['exchanges']} exchanges"
