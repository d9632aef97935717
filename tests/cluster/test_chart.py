"""The chart, by the real Helm: what it refuses, and what it leaves behind."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.discovery.kubernetes import KINDS as KINDS_OF_ZTUNNELS
from tests.cluster.mesh import CHART, helm
from tests.deploy.test_rights import plural
from tests.kit.policy_samples import KINDS, crd_of
from waypoint.config.kinds import BESIDE_DISCOVERY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_helm_finds_nothing_wrong() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("controller.replica=3", "additional properties 'replica' not allowed"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("trustDomain=Not a domain", "/trustDomain"),
        ("ca.certificateSeconds=59", "/ca/certificateSeconds"),
        ("waypoints.workers=0", "/waypoints/workers"),
        ("waypoints.workers=all", "/waypoints/workers"),
    ],
)
def test_a_value_that_does_not_exist_is_refused_by_name(value: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        helm("template", "pywaypoint", str(CHART), f"--set={value}")


def test_with_another_authority_the_controller_may_not_sign() -> None:
    made = helm("template", "pywaypoint", str(CHART), "--set=ca.address=istiod.istio-system.svc:15012")

    assert "--ca-address=istiod.istio-system.svc:15012" in made
    assert not [it for it in ("--sign", "[secrets]", "tokenreviews", "pywaypoint-ca") if it in made]


def test_with_a_discovery_server_ztunnels_have_no_rights_at_the_api_server() -> None:
    value = "--set=ztunnel.discovery.address=istiod.istio-system.svc:15012"
    made = [it for it in yaml.safe_load_all(helm("template", "pywaypoint", str(CHART), value)) if it]

    (ztunnel,) = (it for it in made if (it["kind"], it["metadata"]["name"]) == ("DaemonSet", "ztunnel"))
    arguments = ztunnel["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--discovery=istiod.istio-system.svc:15012" in arguments
    assert not {"--kubernetes", "--on-demand"} & set(arguments)
    assert not [it for it in made if it["metadata"]["name"] == "pywaypoint-ztunnel"]
    assert "--on-demand" in helm("template", "pywaypoint", str(CHART), value, "--set=ztunnel.discovery.onDemand=true")


def test_the_controller_can_be_the_discovery_server() -> None:
    made = [
        it for it in yaml.safe_load_all(helm("template", "pywaypoint", str(CHART), "--set=discovery.serve=true")) if it
    ]
    workloads = {it["metadata"]["name"]: it for it in made if it["kind"] in ("DaemonSet", "Deployment")}
    arguments = {name: set(it["spec"]["template"]["spec"]["containers"][0]["args"]) for name, it in workloads.items()}

    assert "--discovery=pywaypoint-ca.$(POD_NAMESPACE).svc:15012" in arguments["ztunnel"]
    assert "--serve-discovery" in arguments["pywaypoint-controller"]
    assert not [it for it in made if it["metadata"]["name"] == "pywaypoint-ztunnel"]
    (role,) = (it for it in made if (it["kind"], it["metadata"]["name"]) == ("ClusterRole", "pywaypoint-controller"))
    read = {
        (group, resource)
        for rule in role["rules"]
        if {"list", "watch"} <= set(rule["verbs"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert {(group, plural(kind)) for group, kind in KINDS_OF_ZTUNNELS if kind != "Endpoints"} <= read


def test_waypoints_can_follow_the_server_of_the_ztunnels() -> None:
    server, value = "--set=ztunnel.discovery.address=istiod:15012", "--set=waypoints.discovery=true"
    made = [it for it in yaml.safe_load_all(helm("template", "pywaypoint", str(CHART), server, value)) if it]
    by_name = {(it["kind"], it["metadata"]["name"]): it for it in made}

    controller = by_name["Deployment", "pywaypoint-controller"]["spec"]["template"]["spec"]["containers"][0]
    assert "--waypoint-discovery=istiod:15012" in controller["args"]
    rules = by_name["ClusterRole", "pywaypoint-waypoint"]["rules"]
    read = {(group, resource) for it in rules for group in it["apiGroups"] for resource in it["resources"]}
    assert read == {(group, plural(kind)) for group, kind in BESIDE_DISCOVERY}
    assert "--waypoint-discovery" not in helm("template", "pywaypoint", str(CHART), server)
    with pytest.raises(SystemExit, match=r"waypoints\.discovery needs a server"):
        helm("template", "pywaypoint", str(CHART), value)


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_waypoints_have_as_many_workers_as_the_chart_says(workers: str) -> None:
    assert f"--waypoint-workers={workers}" in helm(
        "template", "pywaypoint", str(CHART), f"--set=waypoints.workers={workers}"
    )
    assert "--waypoint-workers" not in helm("template", "pywaypoint", str(CHART))


def test_discovery_is_served_only_where_the_controller_signs() -> None:
    with pytest.raises(SystemExit, match="needs an empty ca"):
        helm("template", "pywaypoint", str(CHART), "--set=discovery.serve=true", "--set=ca.address=istiod:15012")


def crds_in(made: str) -> dict[str, Any]:
    objects = [it for it in yaml.safe_load_all(made) if it and it["kind"] == "CustomResourceDefinition"]
    return {it["spec"]["names"]["kind"]: it for it in objects}


def test_the_chart_holds_the_crds_whose_home_is_elsewhere(tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        links = [it.name for it in archive.getmembers() if not it.isfile()]

    assert links == []
    for chart in (CHART, package):
        assert crds_in(helm("template", "pywaypoint", str(chart))) == {kind: crd_of(kind) for kind in KINDS}


def test_the_crds_can_be_left_out() -> None:
    assert crds_in(helm("template", "pywaypoint", str(CHART), "--set=crds.install=false")) == {}


def monitoring(*values: str) -> dict[tuple[str, str], Any]:
    """What the chart makes for Prometheus and Grafana, by kind and name."""
    made = yaml.safe_load_all(helm("template", "pywaypoint", str(CHART), *(f"--set={it}" for it in values)))
    kinds = ("PodMonitor", "PrometheusRule", "ConfigMap")
    return {(it["kind"], it["metadata"]["name"]): it for it in made if it and it["kind"] in kinds}


def test_monitors_rules_and_boards_are_those_of_the_files_with_the_labels_that_are_asked_for() -> None:
    deploy = CHART.parent
    made = monitoring(
        *("podMonitor.create=true", "podMonitor.labels.release=one"),
        *("prometheusRule.create=true", "prometheusRule.labels.release=two"),
        "grafanaDashboards.create=true",
    )

    monitors = list(yaml.safe_load_all((deploy / "prometheus" / "monitors.yaml").read_text()))
    for it in monitors:
        of_chart = made.pop(("PodMonitor", it["metadata"]["name"]))
        assert of_chart["spec"] == it["spec"]
        assert of_chart["metadata"]["labels"]["release"] == "one"
    rule = made.pop(("PrometheusRule", "pywaypoint"))
    assert rule["spec"] == yaml.safe_load((deploy / "prometheus" / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "two"
    for path in (deploy / "grafana").glob("*.json"):
        board = made.pop(("ConfigMap", f"pywaypoint-board-{path.stem}"))
        assert json.loads(board["data"][f"pywaypoint-{path.name}"]) == json.loads(path.read_text())
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made == {}


def test_without_being_asked_the_chart_makes_nothing_for_prometheus_and_grafana() -> None:
    assert monitoring() == {}
