"""Where the installed programs begin; the wheel has it as `pywaypoint/__init__.py`.

`waypoint`, `l4` and `policies` are no libraries, and their names are not ours alone: in somebody's site-packages they
would hide, or be hidden by, packages of the same names. So the wheel has all three in the folder `pywaypoint`, and
nothing else at the top. Each program puts that folder first on its own import path, and on nobody else's.
In a checkout the folder is the repository's.
"""

import sys
from pathlib import Path


def waypoint() -> None:
    """The `waypoint` command."""
    _find_packages()
    from waypoint.cli import main

    main()


def ztunnel() -> None:
    """The `ztunnel` command."""
    _find_packages()
    from l4.ztunnel.cli import main

    main()


def _find_packages() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
