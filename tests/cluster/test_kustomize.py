"""deploy/kustomize is the chart, for those who don't use Helm."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from tests.cluster.kubectl import kubectl
from tests.cluster.mesh import CHART, NAMESPACE, helm
from tests.image.buildah import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FOLDER = ROOT / "deploy" / "kustomize"
OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def without_helm(content: Any) -> Any:
    """The same without the labels that say that Helm manages it."""
    if isinstance(content, dict):
        return {name: without_helm(it) for name, it in content.items() if name not in OF_HELM}
    return [without_helm(it) for it in content] if isinstance(content, list) else content


def test_it_is_what_helm_renders_now() -> None:
    rendered = yaml.safe_load_all(helm("template", "pywaypoint", str(CHART), "--namespace", NAMESPACE))

    kept = list(yaml.safe_load_all((FOLDER / "mesh.yaml").read_text()))

    assert kept == [without_helm(it) for it in rendered], "run `make kustomize`"


def test_the_api_server_takes_it() -> None:
    said = kubectl("apply", "-k", str(FOLDER), "--dry-run=server")

    for it in ("deployment.apps/pywaypoint-controller", "daemonset.apps/ztunnel", "daemonset.apps/pywaypoint-agent"):
        assert it in said


def test_namespace_and_image_are_set_in_one_place(tmp_path: Path) -> None:
    folder = copytree(FOLDER, tmp_path / "kustomize")
    path = folder / "kustomization.yaml"
    given = yaml.safe_load(path.read_text())
    given["namespace"] = "mesh"
    given["images"][0] |= {"newName": "registry.example:5000/pywaypoint", "newTag": "v9"}
    path.write_text(yaml.safe_dump(given))

    made = kubectl("kustomize", str(folder))

    assert NAMESPACE not in made
    objects = {(it["kind"], it["metadata"]["name"]): it for it in yaml.safe_load_all(made)}
    assert ("Namespace", "mesh") in objects
    pods = [it["spec"]["template"]["spec"] for it in objects.values() if it["kind"] in ("Deployment", "DaemonSet")]
    assert [it["containers"][0]["image"] for it in pods] == ["registry.example:5000/pywaypoint:v9"] * 3
    controller = objects["Deployment", "pywaypoint-controller"]["spec"]["template"]["spec"]["containers"][0]
    assert "--image=registry.example:5000/pywaypoint:v9" in controller["args"]
