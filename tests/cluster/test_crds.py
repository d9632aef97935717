"""Our CRDs in a real API server: what it accepts, what it refuses and with which words, and what kubectl shows.

The CRDs are installed under a group of the test's own, so that those of a chart, and their objects, are not in the way.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from l4.config.documents import ObjectKey
from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.kit.policy_samples import KINDS, ONLY_WE_REFUSE, SAMPLES, Sample, crd_of, documents, is_decoded
from waypoint.config.status import AncestorStatus, Condition, PolicyStatus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = "crds-test"
GROUP = "crds-test.pywaypoint.dev"
RESOURCE = f"ratelimitpolicy.{GROUP}"
LEAST = Sample(
    "RateLimitPolicy",
    "{targetRefs: [{group: '', kind: Service, name: app}], rules: [{limit: {requests: 1, unit: Second}}]}",
)
DOCUMENTS = [pytest.param(it, id=place) for place, it in documents()]


@pytest.fixture(scope="module", autouse=True)
def crds() -> Iterator[None]:
    names = []
    for kind in KINDS:
        crd = crd_of(kind)
        crd["metadata"]["name"] = f"{crd['spec']['names']['plural']}.{GROUP}"
        crd["spec"]["group"] = GROUP
        names.append(f"crd/{crd['metadata']['name']}")
        kubectl("delete", names[-1], "--ignore-not-found", "--timeout=60s")
        kubectl("apply", "--server-side", "-f", "-", given=crd)
    kubectl("wait", "--for=condition=Established", *names, "--timeout=60s")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kubectl("apply", "-f", "-", given=namespace)
    yield
    kubectl("delete", *names, "--timeout=60s")
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def apply(document: dict[str, Any], *arguments: str) -> str:
    """Returns the answer, without kubectl's quotes."""
    its = {**document, "apiVersion": f"{GROUP}/v1alpha1"}
    its["metadata"] = {**document["metadata"], "namespace": NAMESPACE}
    return kubectl("apply", "-f", "-", *arguments, given=its)


def refusal_of(document: dict[str, Any], *arguments: str) -> str:
    """Returns what the API server says, or nothing if it accepts the object."""
    try:
        apply(document, *arguments)
    except KubectlFailed as error:
        return str(error).replace('\\"', '"')
    return ""


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", RESOURCE, name, "-n", NAMESPACE, "-o", "json"))
    return found


@pytest.mark.parametrize("sample", [it for it in [*SAMPLES, *ONLY_WE_REFUSE] if not it.refusal], ids=str)
def test_a_sample_is_accepted(sample: Sample) -> None:
    assert refusal_of(sample.document) == ""


@pytest.mark.parametrize("sample", [it for it in SAMPLES if it.refusal], ids=str)
def test_a_sample_is_refused_with_a_sentence(sample: Sample) -> None:
    assert sample.refusal in refusal_of(sample.document)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_objects_of_documentation_examples_and_golden_files_are_judged_as_by_the_decoder(
    document: dict[str, Any],
) -> None:
    assert (refusal_of(document, "--validate=ignore") == "") is is_decoded(document)


def named(name: str) -> dict[str, Any]:
    return {**LEAST.document, "metadata": {"name": name}}


@pytest.mark.parametrize(("headers", "length"), [(16, 20), (2, 1000)])
def test_the_rules_cost_less_than_the_api_server_allows_for_the_largest_policies(headers: int, length: int) -> None:
    document = named("large")
    fields = [{"name": f"x-{it}", "type": "RegularExpression", "value": "a" * length} for it in range(headers)]
    path = {"type": "Exact", "value": "/" + "a" * length}
    selector = {"headers": fields, "queryParams": fields, "path": path, "sourceCIDR": {"value": "10.0.0.0/8"}}
    limit = {"requests": 1, "unit": "Second"}
    rules = [{"name": f"{'a' * 240}-{it}", "limit": limit, "clientSelectors": [selector] * 8} for it in range(64)]
    document["spec"]["rules"] = rules

    assert refusal_of(document, "--server-side", "--dry-run=server") == ""


def test_a_misspelt_field_is_refused() -> None:
    document = named("misspelt")
    document["spec"]["rules"][0]["limits"] = {}

    assert 'unknown field "spec.rules[0].limits"' in refusal_of(document, "--validate=strict")


def test_a_misspelt_field_that_nobody_checks_is_not_stored() -> None:
    document = named("pruned")
    document["spec"]["rules"][0]["limits"] = {}

    apply(document, "--validate=ignore")

    assert list(stored("pruned")["spec"]["rules"][0]) == ["limit", "shadowMode"]


def test_the_status_is_a_subresource_and_kubectl_shows_its_problem() -> None:
    document = named("told")
    first, second = ({"group": "", "kind": "Service", "name": name} for name in ("app", "other"))
    document["spec"]["targetRefs"] = [first, second]
    in_force = Condition("Accepted", True, "Accepted", "the policy is in force")
    conflicted = Condition("Accepted", False, "Conflicted", "the older policy is in force")
    ancestors = tuple(AncestorStatus(tuple(ref.items()), it) for ref, it in ((first, in_force), (second, conflicted)))
    key = ObjectKey(GROUP, "RateLimitPolicy", NAMESPACE, "told")
    status = PolicyStatus(key, 1, ancestors).dump(lambda *_: "2026-01-01T00:00:00Z")

    apply({**document, "status": status})
    before = stored("told")
    resource = (RESOURCE, "told", "-n", NAMESPACE)
    kubectl("patch", *resource, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    header, row = (line.split() for line in kubectl("get", *resource).splitlines())
    assert "status" not in before
    assert stored("told")["status"] == status
    assert header == ["NAME", "KIND", "TARGET", "ACCEPTED", "PROBLEM", "AGE"]
    assert row[:-1] == ["told", "Service", "app", "True", "Conflicted"]
    assert "the older policy is in force" in kubectl("get", *resource, "-o", "wide")


@pytest.mark.parametrize("category", ["pywaypoint", "gateway-api"])
def test_a_category_lists_the_policies(category: str) -> None:
    apply(named("listed"))

    assert f"{RESOURCE}/listed" in kubectl("get", category, "-n", NAMESPACE, "-o", "name")
