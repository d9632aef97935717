"""The stable codes of configuration problems.

People suppress, count and look up problems by code, so a code never changes its meaning and is never reused. A code is
declared once, in the module of its area: codes of documents here, codes of discovery in `l4/discovery/codes.py`.
`waypoint/ask/codes.py` lists all of them.
"""

from enum import StrEnum
from typing import Self


class Level(StrEnum):
    """The severity of a problem.

    ERROR: something requested is not done. WARNING: it is done, but is probably not what was meant. INFO: worth
    knowing.
    """

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


class Code(StrEnum):
    """A code with its readable name, its level and its meaning. `ist` is the equivalent message code of istioctl's
    analyzers, if there is one."""

    label: str
    level: Level
    meaning: str
    ist: str

    def __new__(cls, code: str, label: str, level: Level, meaning: str, ist: str = "") -> Self:
        self = str.__new__(cls, code)
        self._value_ = code
        self.label = label
        self.level = level
        self.meaning = meaning
        self.ist = ist
        return self


class DocumentCode(Code):
    """Codes of files and documents."""

    INVALID = (
        "PWP0001",
        "Invalid",
        Level.ERROR,
        "The document breaks a rule of its API. Its last valid version stays live.",
        "IST0106",
    )
    UNKNOWN_FIELD = (
        "PWP0002",
        "UnknownField",
        Level.WARNING,
        "The field is unknown and has no effect. Check its spelling.",
        "IST0106",
    )
    NOT_CARRIED_OUT = (
        "PWP0003",
        "NotCarriedOut",
        Level.ERROR,
        "The API has this field or value, but this waypoint does not carry it out.",
    )
    FILE_EMPTY = (
        "PWP0004",
        "FileEmpty",
        Level.WARNING,
        "A configuration file contains no object.",
    )
    KIND_UNKNOWN = (
        "PWP0005",
        "KindUnknown",
        Level.ERROR,
        "The API group has no such kind or version. At start, the proxy stays not ready.",
        "IST0106",
    )
    CONTENT_HELD = (
        "PWP0006",
        "ContentHeld",
        Level.WARNING,
        "A file was emptied, cut short or removed, or can't be read. Its last objects stay live.",
    )
