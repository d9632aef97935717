import sys
from pathlib import Path

import pytest

from waypoint.mesh.programs import InvalidPrograms, load_programs


def write(folder: Path, text: str) -> Path:
    path = folder / "programs.yaml"
    path.write_text(text)
    return path


def test_an_entry_stands_for_the_images_that_its_glob_fits(tmp_path: Path) -> None:
    path = write(tmp_path, "- {image: '*/examples-bookinfo-reviews-v?:*', command: [reviews]}")

    (program,) = load_programs([path])

    assert program.stands_for("docker.io/istio/examples-bookinfo-reviews-v2:1.20.3")
    assert not program.stands_for("docker.io/istio/examples-bookinfo-ratings-v1:1.20.3")


def test_placeholders_are_filled_in(tmp_path: Path) -> None:
    entry = """
    - image: web
      command: ["{python}", "-m", http.server, "{port}", --bind, "{address}", --json, '{"a": 1}']
      env: {PAGES: "{directory}/pages"}
    """

    (program,) = load_programs([write(tmp_path, entry)])

    assert program.argv("127.64.0.1", 80) == (
        *(sys.executable, "-m", "http.server", "80", "--bind", "127.64.0.1"),
        *("--json", '{"a": 1}'),
    )
    assert program.variables("127.64.0.1", 80) == {"PAGES": f"{tmp_path}/pages"}


def test_the_directory_is_relative_to_the_mapping_file(tmp_path: Path) -> None:
    path = write(tmp_path, "- {image: a, command: [a]}\n- {image: b, command: [b], directory: src}")

    a, b = load_programs([path])

    assert (a.directory, b.directory) == (tmp_path, tmp_path / "src")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- {image: a, command: []}", r"programs\.yaml: .*length >= 1 - at `\$\[0\]\.command`"),
        ("- {image: a, comand: [a]}", r"programs\.yaml: .*unknown field `comand`"),
        ("- {image: [", r"programs\.yaml: is not YAML: .*line 2"),
    ],
)
def test_a_bad_mapping_is_one_sentence_that_names_the_file_and_the_field(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidPrograms, match=sentence) as error:
        load_programs([write(tmp_path, text)])

    assert "\n" not in str(error.value)


def test_a_missing_mapping_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidPrograms, match=r"none\.yaml: cannot be read: No such file"):
        load_programs([tmp_path / "none.yaml"])
