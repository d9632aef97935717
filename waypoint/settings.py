"""The settings of a waypoint: one list of the sections that its features declare, beside those of both programs.

See `l4.config.settings` for how to declare a section. Declare a new section in the module of its feature and list it
here; a filter lists its sections in its own `settings`.
"""

from dataclasses import dataclass

from l4 import settings as l4_settings
from l4.config.settings import Section
from waypoint.authentication.settings import TokenSettings
from waypoint.config.settings import ConfigSettings
from waypoint.filters import live as filters
from waypoint.http.settings import HttpSettings
from waypoint.inbound.sandwich import ProxyProtocolSettings
from waypoint.inbound.terminate import SniffSettings
from waypoint.telemetry.buckets import HistogramSettings
from waypoint.telemetry.log_settings import AccessLogSettings
from waypoint.telemetry.recorder import RecorderSettings
from waypoint.telemetry.tracing_settings import SpanTagSettings
from waypoint.upstream.settings import DnsSettings, UpstreamSettings


@dataclass(frozen=True, slots=True)
class ProcessSettings(Section):
    title = "Process"

    memory_limit_bytes: int = 0
    """Memory near which load is shed (`l4.net.pressure`). 0: the limit of the cgroup, where there is one."""
    drain_delay_seconds: float = 5.0
    """Time after SIGTERM in which new connections are still accepted, until everybody knows; Istio's value."""
    worker_start_seconds: float = 120.0
    """Maximum time from the start of a worker process (`--workers`) until it has its configuration; after that it is
    killed and replaced. A start with 5,000 routes takes 7 s of CPU."""


OWN: tuple[type[Section], ...] = (
    ConfigSettings,
    ProxyProtocolSettings,
    SniffSettings,
    HttpSettings,
    TokenSettings,
    *filters.SETTINGS,
    UpstreamSettings,
    DnsSettings,
    HistogramSettings,
    AccessLogSettings,
    SpanTagSettings,
    RecorderSettings,
    ProcessSettings,
)
SECTIONS = (*l4_settings.SECTIONS, *OWN)
