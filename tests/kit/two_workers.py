"""`waypoint run` with two workers: `python -m tests.kit.two_workers run …`, with the flags of the command line."""

from waypoint.cli import main
from waypoint.process import app
from waypoint.process.app import run
from waypoint.process.options import RunOptions


def run_two(options: RunOptions) -> None:
    run(options, workers=2)


if __name__ == "__main__":
    app.run = run_two  # type: ignore[assignment]
    main()
