"""Which program on this machine stands in for a container image.

The mapping is a YAML list; the first entry whose glob fits the image wins:

    - image: "example/reviews:*"
      command: ["{python}", "-m", "reviews"]
      directory: .                   # relative to this file; its folder when left out
      env: {SERVICE_VERSION: v1}     # what the image itself would set; the manifest's env goes above it

`{python}` is the interpreter of the mesh, `{directory}` the folder of the mapping file, `{address}` and `{port}` where
the program has to listen. A program that takes no arguments learns them from BIND_ADDRESS and the manifest.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
import yaml


class InvalidPrograms(Exception):
    """A mapping cannot be used; names the file, the field and what is wrong."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    image: str
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    directory: str = "."
    env: dict[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    image: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    folder: Path

    def stands_for(self, image: str) -> bool:
        return fnmatchcase(image, self.image)

    def argv(self, address: str, port: int | None) -> tuple[str, ...]:
        return tuple(self._fill(word, address, port) for word in self.command)

    def variables(self, address: str, port: int | None) -> dict[str, str]:
        return {name: self._fill(value, address, port) for name, value in self.environment.items()}

    def _fill(self, text: str, address: str, port: int | None) -> str:
        values = {"python": sys.executable, "directory": str(self.folder), "address": address, "port": str(port or "")}
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def load_programs(paths: Iterable[Path]) -> tuple[Program, ...]:
    """All entries in the order of the files. Raises InvalidPrograms."""
    return tuple(program for path in paths for program in _load(path))


def _load(path: Path) -> Iterable[Program]:
    try:
        content = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        entries = msgspec.convert(content, tuple[_Entry, ...])
    except OSError as error:
        raise InvalidPrograms(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidPrograms(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise InvalidPrograms(f"{path}: {error}; an entry has image, command, and perhaps directory and env") from error
    folder = path.parent.resolve()
    for entry in entries:
        yield Program(entry.image, entry.command, (folder / entry.directory).resolve(), entry.env, folder)
