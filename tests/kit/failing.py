"""Run one of the programs and let each of its vital loops fail once, shortly after it began.

Usage: `python -m tests.kit.failing PYTHON -m MODULE ARGUMENT…`, in front of the usual command.
"""

import ast
import asyncio
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

from l4.net.tasks import Begin, Tasks

ROOT = Path(__file__).parents[2]
_FAILS_AFTER_SECONDS = 0.3


class MadeToFail(Exception):
    """The failure of a loop."""


def failing_once(begin: Begin) -> Begin:
    has_failed = False

    async def run() -> None:
        nonlocal has_failed
        if has_failed:
            await begin()
            return
        has_failed = True
        try:
            async with asyncio.timeout(_FAILS_AFTER_SECONDS):
                await begin()
        except TimeoutError:
            raise MadeToFail("made to fail") from None

    return run


def vital_loops(*folders: str) -> set[str]:
    """Return the names of all loops that the source code keeps running."""
    found: set[str] = set()
    for path in _sources(folders):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) == 2:  # a name, and how to begin
                called, name = node.func, node.args[0]
                word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if word.strip("_") == "keep" and isinstance(name, ast.Constant):
                    found.add(str(name.value))
    return found


def _sources(folders: Iterable[str]) -> Iterable[Path]:
    return (path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def main() -> None:
    keep = Tasks.keep

    def keep_failing(self: Tasks, name: str, begin: Begin) -> "asyncio.Task[None]":
        return keep(self, name, failing_once(begin))

    Tasks.keep = keep_failing  # type: ignore[method-assign]
    del sys.argv[:3]  # this file, Python, and -m
    [module, *_] = sys.argv
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
