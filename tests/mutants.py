"""Removes the guards of the edge, one at a time, and lists those whose removal no test detects (`make mutants`).

A guard is a condition under which something is refused (each alternative of it by itself), a `raise` that stands alone,
or a name in a table of names. Every mutant is a copy of the tree with that one guard gone; the tests of its module run
over it until the first fails. Exit status 1 if any mutant survives, or time runs out (`MUTANTS_SECONDS`).
"""

import ast
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("policies", "l4", "waypoint", "tests", "pyproject.toml")
SECONDS = float(os.environ.get("MUTANTS_SECONDS", "1500"))
SECONDS_EACH = 60.0
_HTTP1 = ("tests/waypoint/http/test_hygiene.py", "tests/wire/test_requests.py", "tests/wire/test_responses.py")
_HTTP2 = ("tests/l4/http2/test_flood.py", "tests/wire/test_http2.py")
GUARDED = {
    "waypoint/http/hygiene.py": (*_HTTP1, "tests/waypoint/http/test_h1.py"),
    "waypoint/http/framing.py": ("tests/waypoint/http/test_framing.py", *_HTTP1, "tests/waypoint/http/test_h1.py"),
    "waypoint/http/h1_request.py": ("tests/waypoint/http/test_h1.py", *_HTTP1),
    "waypoint/http/h1_response.py": ("tests/waypoint/http/test_h1.py", *_HTTP1),
    "policies/dot_segments.py": ("tests/waypoint/http/test_hygiene.py",),
    "l4/http2/flood.py": _HTTP2,
    "l4/http2/heads.py": _HTTP2,
}
"""Each module with the tests that must notice, the most likely one first. Those through the whole mesh are left out."""


@dataclass(frozen=True, slots=True)
class Mutant:
    module: str
    line: int
    start: int
    end: int
    """Where in the module's bytes `text` is put."""
    text: bytes
    gone: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.gone}"


def mutants_of(module: str) -> Iterator[Mutant]:
    source = ROOT.joinpath(module).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def without(node: ast.expr | ast.stmt, text: bytes) -> Mutant:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        return Mutant(module, node.lineno, start, end, text, " ".join(source[start:end].decode().split()))

    conditional: set[ast.stmt] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.If(test=test, body=[*_, refusal]) if _is_refusal(refusal):
                conditional.add(refusal)
                alternatives = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) else [test]
                for alternative in alternatives:
                    yield without(alternative, b"False")
            case ast.Raise() if node not in conditional:
                yield without(node, b"pass")
            case ast.Set(elts=names) if all(isinstance(name, ast.Constant) for name in names):
                for name in names:
                    yield without(name, b"b'no such name'")


def _is_refusal(statement: ast.stmt) -> bool:
    """It raises, or notes that what comes next must not be read."""
    match statement:
        case ast.Raise() | ast.Assign(targets=[ast.Attribute(attr="exceeded" | "is_too_large")]):
            return True
    return False


class Tree:
    """A copy of the project, in which one module at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writes = 0
        for name in COPIED:
            if (source := ROOT / name).is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    def is_green(self, tests: tuple[str, ...]) -> bool:
        options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not envoy and not soak")
        command = [sys.executable, "-m", "pytest", *options, "-k", "not test_a_waypoint", *tests]
        try:
            return not subprocess.run(command, cwd=self.folder, capture_output=True, timeout=SECONDS_EACH).returncode
        except subprocess.TimeoutExpired:
            return False

    def survives(self, mutant: Mutant) -> bool:
        path = self.folder / mutant.module
        source = path.read_bytes()
        try:
            self._write(path, source[: mutant.start] + mutant.text + source[mutant.end :])
            return self.is_green(GUARDED[mutant.module])
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: bytes) -> None:
        """With a time of its own, so that no compiled file is taken for this one's."""
        path.write_bytes(source)
        self._writes += 1
        os.utime(path, (self._writes, self._writes))


def main(chosen: list[str]) -> int:
    """All modules, or those whose path contains one of the words."""
    modules = [module for module in GUARDED if not chosen or any(word in module for word in chosen)]
    mutants = [mutant for module in modules for mutant in sorted(mutants_of(module), key=lambda it: it.start)]
    deadline = time.monotonic() + SECONDS
    workers = os.cpu_count() or 1
    trees: queue.Queue[Tree] = queue.Queue()
    survivors: list[Mutant] = []

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for number in range(workers):
            trees.put(Tree(Path(folder, str(number))))
        tree = trees.get()
        for module in modules:
            if not tree.is_green(GUARDED[module]):
                print(f"the tests of {module} fail without any change")
                return 1
        trees.put(tree)

        def try_one(numbered: tuple[int, Mutant]) -> bool:
            number, mutant = numbered
            if time.monotonic() > deadline:
                return False
            tree = trees.get()
            try:
                has_survived = tree.survives(mutant)
            finally:
                trees.put(tree)
            if has_survived:
                survivors.append(mutant)
            print(f"{number}/{len(mutants)} {'SURVIVES' if has_survived else 'noticed '} {mutant}", flush=True)
            return True

        with ThreadPoolExecutor(workers) as pool:
            tried = sum(pool.map(try_one, enumerate(mutants, 1)))

    for mutant in survivors:
        print(f"no test misses {mutant}")
    print(f"{tried} of {len(mutants)} guards taken away, {len(survivors)} of them unnoticed")
    return int(bool(survivors) or tried < len(mutants))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
