"""The lists of metrics hold everything that is declared, and each program shows its own."""

import importlib
import pkgutil
import re

import l4
import waypoint
from l4.telemetry import metrics as l4_metrics
from l4.telemetry.metrics import MeshMetrics, Metric
from l4.ztunnel import metrics as ztunnel_metrics
from waypoint.controller.discovery_metrics import METRICS as DISCOVERY
from waypoint.metrics import METRICS, waypoint_metrics
from waypoint.telemetry.exchanges import REQUEST_LABELS

CONTROLLER_NAMES = {it.name for it in DISCOVERY}
L4_NAMES = {it.name for it in (*l4_metrics.METRICS, *ztunnel_metrics.METRICS)}


def declared(package: object) -> set[str]:
    """The names of the metrics that the modules of a package define."""
    names = (it.name for it in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))  # type: ignore[attr-defined]
    modules = (importlib.import_module(name) for name in names if not name.endswith("__main__"))
    return {value.name for module in modules for value in vars(module).values() if isinstance(value, Metric)}


def shown(metrics: MeshMetrics) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", metrics.render("application/openmetrics-text")[0].decode(), re.MULTILINE))


def test_each_metric_that_a_feature_declares_is_listed_once() -> None:
    names = [it.name for it in METRICS]

    assert declared(l4) == L4_NAMES
    assert declared(waypoint) | L4_NAMES == {*names, *L4_NAMES, *CONTROLLER_NAMES}
    for listed in ((*METRICS, *l4_metrics.METRICS), (*ztunnel_metrics.METRICS, *l4_metrics.METRICS)):
        assert len({it.name for it in listed}) == len(listed)
    assert len({*METRICS, *l4_metrics.METRICS, *ztunnel_metrics.METRICS}) == len({*names, *L4_NAMES})


def test_a_waypoint_shows_what_it_lists_from_the_start() -> None:
    assert {it.name for it in METRICS} <= shown(waypoint_metrics("1"))


def test_a_ztunnel_shows_no_metric_of_a_waypoint() -> None:
    its = shown(ztunnel_metrics.ztunnel_metrics("1"))

    assert {name for name in its if not name.startswith("process_")} == L4_NAMES


def test_labels_of_requests_have_istios_names_and_order() -> None:
    assert ",".join(REQUEST_LABELS[20:]) == (
        "request_protocol,response_code,grpc_response_status,response_flags,connection_security_policy"
    )
    assert set(REQUEST_LABELS) - set(l4_metrics.TCP_LABELS) == {"response_code", "grpc_response_status"}
