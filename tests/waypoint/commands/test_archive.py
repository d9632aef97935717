import tarfile
from pathlib import Path

import pytest

from waypoint.commands import archive as archives
from waypoint.commands.archive import Archive


def files_of(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {it.name: archive.extractfile(it).read().decode() for it in archive}  # type: ignore[union-attr]


def test_files_are_in_one_folder_and_for_their_user_only(tmp_path: Path) -> None:
    archive = Archive()
    archive.add_text("a/log.txt", "hello\n")
    archive.add_values("a/status.json", {"token": "abc"})

    archive.write(tmp_path / "report.tar.gz")

    assert files_of(tmp_path / "report.tar.gz") == {
        "bug-report/a/log.txt": "hello\n",
        "bug-report/a/status.json": '{\n  "token": "(redacted)"\n}',
        "bug-report/failures.txt": "",
    }
    assert (tmp_path / "report.tar.gz").stat().st_mode & 0o777 == 0o600


def test_what_fails_is_noted_and_the_rest_is_written(tmp_path: Path) -> None:
    archive = Archive()
    with archive.trying("the log", OSError):
        (tmp_path / "absent").read_text()

    archive.write(tmp_path / "report.tar.gz")

    assert files_of(tmp_path / "report.tar.gz")["bug-report/failures.txt"].startswith("the log: [Errno 2]")


def test_of_a_long_file_the_end_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 4)
    archive = Archive()
    archive.add_text("log.txt", "0123456789")
    failures = list(archive.failures)

    archive.write(tmp_path / "report")

    assert failures == ["log.txt: only the last 4 of 10 bytes are kept"]
    assert files_of(tmp_path / "report")["bug-report/log.txt"] == "6789"
