import os
from pathlib import Path

from l4.identity.file_version import version_of


def test_a_file_that_is_written_has_another_version(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text("one")
    before = version_of(file)

    file.write_text("three")

    assert before is not None
    assert version_of(file) not in {before, None}


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_has_another_version(tmp_path: Path) -> None:
    file, other = tmp_path / "certificate.pem", tmp_path / "new.pem"
    for path in (file, other):
        path.write_text("same")
        os.utime(path, ns=(1, 1))
    before = version_of(file)

    other.replace(file)

    assert version_of(file) != before


def test_a_link_has_the_version_of_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("one")
    (tmp_path / "2").write_text("two")
    link = tmp_path / "link"
    link.symlink_to("1")
    before = version_of(link)

    link.unlink()
    link.symlink_to("2")

    assert version_of(link) != before


def test_a_file_that_cannot_be_accessed_has_none(tmp_path: Path) -> None:
    assert version_of(tmp_path / "missing") is None
    assert version_of(tmp_path / "missing" / "below") is None
