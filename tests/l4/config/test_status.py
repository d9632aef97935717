"""The type of a path, and the change of its version with its content."""

import os
from pathlib import Path

from l4.config.status import Kind, kind_of, version_of


def test_a_file_that_is_written_replaced_or_removed_has_another_version(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    seen = [version_of(path)]

    path.write_text("two")
    seen.append(version_of(path))
    (tmp_path / "b.pem").write_text("two")
    (tmp_path / "b.pem").rename(path)
    seen.append(version_of(path))
    path.unlink()
    seen.append(version_of(path))

    assert len(set(seen)) == 4
    assert version_of(path) == seen[-1]


def test_a_path_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")

    kinds = {name: kind_of(tmp_path / name) for name in ("folder", "file", "link", "pipe", "nothing", "loop")}

    assert kinds == {
        "folder": Kind.FOLDER,
        "file": Kind.FILE,
        "link": Kind.FOLDER,
        "pipe": Kind.OTHER,
        "nothing": Kind.GONE,
        "loop": Kind.UNKNOWN,
    }
