"""The settings of a waypoint: one list of the sections that its features declare, each beside its feature.

`l4.config.settings` says how a section is declared. A new one is declared in the module of its feature, and named here.
"""

from l4.config.settings import Section
from waypoint.telemetry.recorder import RecorderSettings

SECTIONS: tuple[type[Section], ...] = (RecorderSettings,)
