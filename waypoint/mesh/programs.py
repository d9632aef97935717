"""Programs that run instead of container images.

The mapping is a YAML list. The first entry whose glob matches the image applies:

    - image: "example/reviews:*"
      command: ["{python}", "-m", "reviews"]
      directory: .                   # relative to this file; default: this file's folder
      env: {SERVICE_VERSION: v1}     # the image's defaults; the manifest's env overrides them

`{python}` is the mesh's interpreter, `{directory}` the folder of the mapping file, `{address}` and `{port}` where the
program must listen. A program without arguments gets them from BIND_ADDRESS and the manifest.
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
    """A mapping is invalid. The message names the file, the field and the reason."""


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
    """Return all entries in the order of the files. Raises InvalidPrograms."""
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
        raise InvalidPrograms(
            f"{path}: {error}; an entry has image and command, and optionally directory and env"
        ) from error
    folder = path.parent.resolve()
    for entry in entries:
        yield Program(entry.image, entry.command, (folder / entry.directory).resolve(), entry.env, folder)
