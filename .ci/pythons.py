"""Runs the tests on each Python from 3.11 on that is found here, each in a venv of its own from the lock.

`make test-pythons` calls it.

Found are `python3.N` on PATH and those of pyenv; of each 3.N the newest. Arguments choose some, such as 3.12; `--`
begins what is handed to pytest instead of everything. One at a time; the last lines say how each ended.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = (3, 11)
EVERYTHING = ["-n", "2", "--dist", "loadfile"]


def main() -> int:
    ours = sys.argv[1:]
    chosen, handed_on = (ours[: ours.index("--")], ours[ours.index("--") + 1 :]) if "--" in ours else (ours, [])
    pythons = {it: path for it, path in found().items() if not chosen or it in chosen}
    missing = sorted(set(chosen) - set(pythons))
    if missing or not pythons:
        print(f"no Python {', '.join(missing) or 'from 3.11 on'} is found on PATH or in pyenv", file=sys.stderr)
        return 1
    ends = {name: _run(name, path, handed_on or EVERYTHING) for name, path in pythons.items()}
    for name, end in ends.items():
        print(f"{name} ({pythons[name]}): {end}")
    return int(any(end.startswith("FAILED") for end in ends.values()))


def found() -> dict[str, Path]:
    newest: dict[tuple[int, int], tuple[tuple[int, ...], Path]] = {}
    for path in _candidates():
        code = "import sys; print(*sys.version_info[:3])"
        try:
            answer = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0:  # a shim of pyenv may stand for a Python that isn't active
            version = tuple(map(int, answer.stdout.split()))
            name = version[0], version[1]
            if name >= OLDEST and (name not in newest or version > newest[name][0]):
                newest[name] = version, path
    return {f"{name[0]}.{name[1]}": newest[name][1] for name in sorted(newest)}


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from sorted(pyenv.glob("versions/*/bin/python3"))
    for folder in os.get_exec_path():
        yield from sorted(it for it in Path(folder).glob("python3.*") if re.fullmatch(r"python3\.\d+", it.name))


def _run(name: str, python: Path, handed_on: list[str]) -> str:
    folder = ROOT / "build" / "pythons" / name
    lock = folder / "requirements.lock"
    own = folder / "bin" / "python"
    pip = (own, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    steps = (
        (python, "-m", "venv", folder),
        (*pip, "--require-hashes", "--requirement", lock),
        (*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT),
    )
    folder.mkdir(parents=True, exist_ok=True)
    lock.write_text((ROOT / "requirements.lock").read_text().partition("# section: browser")[0])
    print(f"== Python {name}: {python}", flush=True)
    for step in steps:
        if subprocess.run(step, cwd=ROOT).returncode != 0:
            return f"FAILED: could not be set up ({' '.join(map(str, step))})"
    tests = subprocess.Popen((own, "-m", "pytest", *handed_on), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    last = ""
    for line in tests.stdout or ():
        print(line, end="", flush=True)
        last = line.strip() or last
    return last if tests.wait() == 0 else f"FAILED: {last}"


if __name__ == "__main__":
    sys.exit(main())
