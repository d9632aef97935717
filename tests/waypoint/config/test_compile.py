"""Properties that goldens do not show: keys, order, identity of configurations, health. See tests/golden for others."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from l4.config.documents import Document, FileOrigin, Problem
from l4.config.resources import Resources
from l4.config.settings import Settings
from policies.attributes import ClusterName, RequestHead
from tests.kit.snapshots import GATEWAY, compiled, documents_of
from tests.kit.workloads import pod, registry
from waypoint.ask.lines import Lines
from waypoint.config.compile import Compilation
from waypoint.config.compile_options import options_of

GOLDEN = Path(__file__).parents[2] / "golden"
MESH = (GOLDEN / "mesh.yaml").read_text()
SEVERAL = (GOLDEN / "several-routes.in.yaml").read_text()
EDITS = (GOLDEN / "edits.in.yaml").read_text()
DOCUMENTS = documents_of(mesh=MESH, parents=(GOLDEN / "parents.in.yaml").read_text(), several=SEVERAL, edits=EDITS)

REVIEWS = "reviews.default.svc.cluster.local"
CLUSTER = ClusterName(f"inbound-vip|9080|http|{REVIEWS}")


def test_a_destination_is_found_by_address_and_by_hostname() -> None:
    destinations = compiled(documents_of(mesh=MESH)).destinations

    assert destinations["10.96.0.1", 9080] == destinations[REVIEWS, 9080]
    assert destinations["10.96.0.1", 9080].service.name == "reviews"


def test_services_before_which_we_do_not_stand_are_no_destinations() -> None:
    snapshot = compiled(documents_of(mesh=MESH))

    assert ("10.96.0.3", 8080) not in snapshot.destinations
    assert not [name for name in snapshot.clusters if "ratings" in name]


def test_a_service_without_address_is_found_by_its_hostname_only() -> None:
    headless = MESH.replace("clusterIP: 10.96.0.1", "clusterIP: None")

    hosts = {host for host, _ in compiled(documents_of(mesh=headless)).destinations}

    assert hosts == {REVIEWS, "reviews-v2.default.svc.cluster.local", "10.96.0.2"}


def test_only_healthy_endpoints_enter_a_cluster() -> None:
    sick = MESH.replace("{podIP: 10.0.0.1}", "{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}")

    clusters = compiled(documents_of(mesh=sick)).clusters

    assert [endpoint.ip for endpoint in clusters[CLUSTER].endpoints] == ["10.0.0.2"]


def test_endpoints_that_go_away_and_still_serve_enter_a_cluster_where_no_other_is_left() -> None:
    leaving = "  deletionTimestamp: '2026-01-01T00:00:00Z'\n  namespace: default\n"
    one = MESH.replace("  name: reviews-v1\n  namespace: default\n", f"  name: reviews-v1\n{leaving}", 1)
    both = one.replace("  name: reviews-v2\n  namespace: default\n", f"  name: reviews-v2\n{leaving}", 1)

    def endpoints(text: str) -> list[str]:
        return [endpoint.ip for endpoint in compiled(documents_of(mesh=text)).clusters[CLUSTER].endpoints]

    assert endpoints(one) == ["10.0.0.2"]
    assert endpoints(both) == ["10.0.0.1", "10.0.0.2"]


def test_an_endpoint_in_the_mesh_has_the_identity_that_its_tunnel_must_show() -> None:
    outside = MESH.replace("annotations: {ambient.istio.io/redirection: enabled}", "annotations: {}", 1)

    one, two = compiled(documents_of(mesh=outside)).clusters[CLUSTER].endpoints

    assert (one.ip, one.identity) == ("10.0.0.1", None)
    assert str(two.identity) == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"


def test_without_our_gateway_the_snapshot_says_so() -> None:
    assert compiled(documents_of(mesh=MESH)).has_gateway
    assert not compiled(
        documents_of(mesh=MESH.replace("name: waypoint, namespace", "name: other, namespace"))
    ).has_gateway


def test_a_route_is_found_through_the_table_of_its_destination() -> None:
    routes = compiled(documents_of(mesh=MESH, several=SEVERAL)).destinations[REVIEWS, 9080].routes

    rule = routes.find(RequestHead(b"GET", b"reviews:9080", b"/exact", b"", []))

    assert rule is not None
    assert rule.name == "more-exact"


def test_a_route_of_a_service_that_is_not_ours_is_left_to_others() -> None:
    route = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: ratings, namespace: shop}
        spec:
          parentRefs: [{group: "", kind: Service, name: ratings}]
          rules: [{backendRefs: [{name: ratings, port: 8080}, {name: no-such-service, port: 1}]}]
    """

    assert compiled(documents_of(mesh=MESH, route=route)) == compiled(documents_of(mesh=MESH))


def test_problems_found_on_the_way_are_told_with_our_own() -> None:
    earlier = Problem(FileOrigin("other.yaml", 3), "other.yaml", "", "can't be read")

    assert earlier in compiled(DOCUMENTS, [earlier]).problems


def test_a_problem_is_located_at_the_line_of_its_field(tmp_path: Path) -> None:
    file = tmp_path / "route.yaml"
    file.write_text((GOLDEN / "unresolved-backends.in.yaml").read_text())
    problem = compiled(documents_of(mesh=MESH, case=file.read_text())).problems[0]

    (told,) = Lines({}).located([replace(problem, origin=FileOrigin(str(file), problem.origin.line))])

    assert "no-such-service" in file.read_text().splitlines()[told.origin.line - 1]


@settings(max_examples=40)
@given(documents=st.permutations(DOCUMENTS))
def test_the_same_documents_in_any_order_are_the_same_configuration(documents: list[Document]) -> None:
    assert compiled(documents) == compiled(DOCUMENTS)


def test_what_matters_to_the_data_path_changes_the_version() -> None:
    versions = {
        compiled(documents_of(mesh=MESH)).version,
        compiled(documents_of(mesh=MESH, edits=EDITS)).version,
        compiled(documents_of(mesh=MESH, edits=EDITS.replace("X-Debug", "X-Other"))).version,
        compiled(documents_of(mesh=MESH.replace("podIP: 10.0.0.1", "podIP: 10.0.0.9"))).version,
    }

    assert len(versions) == 4


def test_the_order_of_labels_does_not_change_the_version() -> None:
    turned = MESH.replace("{app: reviews, version: v1}", "{version: v1, app: reviews}")

    assert compiled(documents_of(mesh=turned)).version == compiled(documents_of(mesh=MESH)).version


def test_every_process_gives_a_configuration_the_same_version() -> None:
    program = "from tests.waypoint.config.test_compile import *; print(compiled(DOCUMENTS).version)"

    versions = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert versions == {f"{compiled(DOCUMENTS).version}\n"}


def test_who_makes_the_tunnels_follows_from_the_waypoints_own_pod() -> None:
    redirected = replace(pod("waypoint", "10.0.0.8"), is_redirected=True)
    known = registry(redirected, replace(pod("other", "10.0.0.9"), is_redirected=False))

    def is_carried(own_ip: str | None) -> bool:
        options = options_of(Settings(), GATEWAY, own_ip, frozenset())
        return Compilation(Resources(), known, options).snapshot.is_carried

    assert [is_carried(it) for it in ("10.0.0.8", "10.0.0.9", "10.0.0.7", None)] == [True, False, False, False]
