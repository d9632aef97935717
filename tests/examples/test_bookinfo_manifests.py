"""The manifests agree with one another, with the mappings, and with the programs."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.snapshots import compiled, documents_of
from waypoint.config.status import PolicyStatus

BOOKINFO = Path(__file__).parents[2] / "examples" / "bookinfo"
ROUTES = [BOOKINFO / "routes.yaml", *sorted((BOOKINFO / "routes").iterdir())]
PUBLIC_IMAGES = [
    f"docker.io/istio/examples-bookinfo-{name}:1.20.3"
    for name in ("details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3", "productpage-v1")
]


def objects(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    return (it for it in yaml.safe_load_all(path.read_text()) if it["kind"] == kind)


def programs_for(image: str, mapping: str) -> list[dict[str, Any]]:
    entries = yaml.safe_load((BOOKINFO / mapping).read_text())
    return [entry for entry in entries if fnmatchcase(image, entry["image"])]


def images() -> list[str]:
    deployments = objects(BOOKINFO / "platform" / "bookinfo.yaml", "Deployment")
    return [it["spec"]["template"]["spec"]["containers"][0]["image"] for it in deployments]


@pytest.mark.parametrize("path", ROUTES, ids=lambda path: path.name)
def test_routes_name_services_that_exist_and_are_named_after_their_own(path: Path) -> None:
    services = {it["metadata"]["name"] for it in objects(BOOKINFO / "platform" / "bookinfo.yaml", "Service")}

    for route in objects(path, "HTTPRoute"):
        parents = [ref["name"] for ref in route["spec"]["parentRefs"]]
        backends = {ref["name"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}

        assert parents == [route["metadata"]["name"]]
        assert {*parents, *backends} <= services


@pytest.mark.parametrize("path", sorted((BOOKINFO / "scenarios").iterdir()), ids=lambda path: path.name)
def test_scenarios_are_in_force_whole_beside_the_other_manifests(path: Path) -> None:
    files = {"platform": "platform/bookinfo.yaml", "gateway": "gateway.yaml"}
    texts = {name: (BOOKINFO / file).read_text() for name, file in files.items()}
    address = "status: {addresses: [{type: IPAddress, value: 10.0.0.1}]}"

    snapshot = compiled(documents_of(**texts | {"gateway": texts["gateway"] + address}, scenario=path.read_text()))

    policies = [it for it in snapshot.statuses if isinstance(it, PolicyStatus)]
    assert all(it.condition.reason == "Accepted" for status in policies for it in status.ancestors)
    assert snapshot.problems == ()


@pytest.mark.parametrize(
    ("image", "mapping"),
    [*((image, "programs.yaml") for image in images()), *((image, "programs-istio.yaml") for image in PUBLIC_IMAGES)],
)
def test_every_image_has_one_program_that_exists(image: str, mapping: str) -> None:
    (program,) = programs_for(image, mapping)

    python, flag, module = program["command"]
    path = BOOKINFO / module.replace(".", "/")
    assert (python, flag) == ("{python}", "-m")
    assert module.removeprefix("services.") in image
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    assert program["env"].get("SERVICE_VERSION", "v") in image


def test_every_service_selects_a_deployment_and_every_deployment_has_its_own_identity() -> None:
    path = BOOKINFO / "platform" / "bookinfo.yaml"
    accounts = {it["metadata"]["name"] for it in objects(path, "ServiceAccount")}
    templates = [it["spec"]["template"] for it in objects(path, "Deployment")]
    labels = [template["metadata"]["labels"] for template in templates]

    for service in objects(path, "Service"):
        assert any(service["spec"]["selector"].items() <= of_pod.items() for of_pod in labels)
    for template in templates:
        assert template["spec"]["serviceAccountName"] == f"bookinfo-{template['metadata']['labels']['app']}"
        assert template["spec"]["serviceAccountName"] in accounts
