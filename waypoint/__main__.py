"""`python -m waypoint` is the `waypoint` command."""

from waypoint.cli import main

main()
