"""Buckets of Istio's histograms, as the annotation `sidecar.istio.io/statsHistogramBuckets` writes them.

https://istio.io/latest/docs/reference/config/annotations/#SidecarStatsHistogramBuckets
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from l4.config.settings import InvalidSetting, Section
from l4.telemetry.samples import Buckets
from waypoint.telemetry.exchanges import REQUEST_BYTES, REQUEST_DURATION, RESPONSE_BYTES

MOST = 100
"""Buckets of one histogram. Each is a series of every caller, workload and status."""
_LARGEST = 2**53
_ENVOYS = "istiocustom."
"""What comes before the names of Istio's metrics in Envoy."""
_NAMES = tuple(it.name for it in (REQUEST_DURATION, REQUEST_BYTES, RESPONSE_BYTES))
_VARIABLE = "STATS_HISTOGRAM_BUCKETS"


@dataclass(frozen=True, slots=True)
class HistogramSettings(Section):
    title = "Histograms"

    stats_histogram_buckets: str = ""
    """Buckets of Istio's histograms in place of Envoy's, as in Istio's annotation
    `sidecar.istio.io/statsHistogramBuckets`: a JSON object from prefixes of metrics to ascending upper bounds, in
    milliseconds or bytes, such as `{"istiocustom": [1, 10, 100, 1000], "istio_request_bytes": [1024, 1048576]}`.
    `istiocustom` means all histograms; of several prefixes the longest counts. At most 100 bounds each."""

    def check(self) -> None:
        list(self._parsed())

    @property
    def buckets(self) -> Mapping[str, Buckets]:
        """Return the buckets by the metric's name."""
        found = sorted(self._parsed(), key=lambda it: len(it[0]))
        return {name: its for prefix, its in found for name in _NAMES if name.startswith(prefix)}

    def _parsed(self) -> Iterator[tuple[str, Buckets]]:
        """Yield prefixes, without Envoy's part, and their buckets. Raises InvalidSetting."""
        if not self.stats_histogram_buckets:
            return
        try:
            content = json.loads(self.stats_histogram_buckets)
        except (ValueError, RecursionError) as error:
            raise InvalidSetting(f"{_VARIABLE} is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise InvalidSetting(f"{_VARIABLE} is not a JSON object from prefixes of metrics to lists of buckets")
        for prefix, bounds in content.items():
            name = "" if _ENVOYS.startswith(prefix) else prefix.removeprefix(_ENVOYS)
            if not prefix or not any(it.startswith(name) for it in _NAMES):
                known = ", ".join(_NAMES)
                raise InvalidSetting(f"{_VARIABLE}: no histogram begins with {prefix!r}; there are {known}")
            yield name, _checked(prefix, bounds)


def _checked(prefix: str, bounds: object) -> Buckets:
    if not isinstance(bounds, list) or not 1 <= len(bounds) <= MOST:
        raise InvalidSetting(f"{_VARIABLE}: the buckets of {prefix!r} must be a list of 1 to {MOST} numbers")
    for it in bounds:
        if isinstance(it, bool) or not isinstance(it, int | float) or not 0 < it <= _LARGEST:
            raise InvalidSetting(f"{_VARIABLE}: {it!r} of {prefix!r} is not a number above 0, up to 2**53")
    for before, after in pairwise(bounds):
        if before >= after:
            raise InvalidSetting(f"{_VARIABLE}: the buckets of {prefix!r} must ascend, but {after} follows {before}")
    return tuple(bounds)
