"""Whether somebody keeps an object that a mapping has, too.

By CPython's count of references, so that who keeps an object need not say so. What is counted beside the keepers'
references differs between versions of Python and between the plain source and the compiled twin: it is measured.
"""

import sys
from collections.abc import Mapping
from typing import Any


def _references(kept: Mapping[Any, object], key: object) -> int:
    return sys.getrefcount(kept[key])


_OF_THE_MAPPING = _references({"": object()}, "")


def is_held(kept: Mapping[Any, object], key: object) -> bool:
    """Return whether anything but `kept` refers to the object under `key`."""
    return _references(kept, key) > _OF_THE_MAPPING
