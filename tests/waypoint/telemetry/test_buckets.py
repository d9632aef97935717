import json
import re
from pathlib import Path

import pytest

from l4.config.settings import InvalidSetting
from l4.telemetry.samples import BUCKETS
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import waypoint_process
from waypoint.telemetry.buckets import HistogramSettings

DURATION, REQUEST, RESPONSE = "istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"


@pytest.mark.parametrize(
    ("text", "buckets"),
    [
        ("", {}),
        ('{"istiocustom": [1, 2.5]}', dict.fromkeys((DURATION, REQUEST, RESPONSE), (1, 2.5))),
        ('{"istiocustom.istio_request_d": [1]}', {DURATION: (1,)}),
        ('{"istio_request": [1]}', {DURATION: (1,), REQUEST: (1,)}),
        (
            '{"istio_request_bytes": [7], "istiocustom": [1], "istio_re": [2]}',
            {DURATION: (2,), REQUEST: (7,), RESPONSE: (2,)},
        ),
    ],
)
def test_the_longest_prefix_of_a_metric_gives_its_buckets(text: str, buckets: dict[str, tuple[float, ...]]) -> None:
    assert HistogramSettings(text).buckets == buckets


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "STATS_HISTOGRAM_BUCKETS is not JSON: Expecting value"),
        ("[" * 100_000, "STATS_HISTOGRAM_BUCKETS is not JSON: maximum recursion"),
        ("[1]", "is not a JSON object from prefixes of metrics to lists of buckets"),
        ('{"cluster.xds-grpc": [1]}', f"no histogram begins with 'cluster.xds-grpc'; there are {DURATION}, {REQUEST}"),
        ('{"": [1]}', "no histogram begins with ''"),
        ('{"istiocustom": 1}', "the buckets of 'istiocustom' must be a list of 1 to 100 numbers"),
        ('{"istiocustom": []}', "must be a list of 1 to 100 numbers"),
        (json.dumps({"istiocustom": list(range(1, 102))}), "must be a list of 1 to 100 numbers"),
        ('{"istiocustom": [1, "2"]}', "'2' of 'istiocustom' is not a number above 0"),
        ('{"istiocustom": [true]}', "True of 'istiocustom' is not a number above 0"),
        ('{"istiocustom": [0]}', "0 of 'istiocustom' is not a number above 0"),
        ('{"istiocustom": [NaN]}', "nan of 'istiocustom' is not a number above 0"),
        ('{"istiocustom": [1e999]}', "inf of 'istiocustom' is not a number above 0"),
        ('{"istiocustom": [1, 5, 5]}', "the buckets of 'istiocustom' must ascend, but 5 follows 5"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        HistogramSettings(text)

    assert sentence in str(caught.value)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_scrape_has_the_buckets_of_the_settings(tmp_path: Path, workers: str) -> None:
    async def scenario() -> str:
        buckets = '{"istio_request_bytes": [10.5, 1000]}'
        async with (
            waypoint_process(tmp_path, STATS_HISTOGRAM_BUCKETS=buckets, WAYPOINT_WORKERS=workers) as it,
            origin(it.pod, answering(b"hello")),
        ):
            reader, writer = await it.open()
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            return await it.metrics()

    text = run(scenario(), 40)

    def found(metric: str) -> dict[str, str]:
        return dict(re.findall(rf'^{metric}_bucket{{.*le="(.*)"}} (\d+)$', text, re.MULTILINE))

    assert found(REQUEST) == {"10.5": "0", "1000.0": "1", "+Inf": "1"}
    assert len(found(DURATION)) == len(found(RESPONSE)) == len(BUCKETS) + 1
