import pytest

from waypoint.mesh.display import Display


def test_piped_progress_is_one_plain_line_per_program_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()

    display.show({"a"}, {"a", "b"})
    display.show({"a"}, {"a", "b"})
    display.show({"a", "b"}, {"a", "b"})

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a is ready (1 of 2)\nb is ready (2 of 2)\n"


def test_addresses_go_to_standard_output_whole_and_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    long = "http://127.0.0.1:9080/" + "x" * 200

    Display().table([("page", long, "through [the] mesh")])

    out, err = capsys.readouterr()
    assert out.split() == ["page", long, "through", "[the]", "mesh"]
    assert err == ""


def test_a_terminal_shows_what_is_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    display = Display()

    display.show({"a"}, {"a", "b"})
    display.show({"a", "b"}, {"a", "b"})

    err = capsys.readouterr().err
    assert "1 of 2 programs are ready, waiting for b" in err
