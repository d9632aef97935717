"""How a program introduces itself to a discovery server."""

from pathlib import Path

import pytest

from l4.config.settings import InvalidSetting, Settings
from l4.discovery.mesh import Mesh
from l4.discovery.own_pod import OwnPod
from l4.version import version
from l4.xds.options import DiscoveryOptions
from l4.xds.server import server_of

OPTIONS = DiscoveryOptions("istiod:15012", Path("root"), Path("token"))


def test_the_node_has_the_pods_name_and_namespace_and_what_the_mesh_is_called() -> None:
    settings = Settings(OwnPod("ztunnel-1", "istio-system"), Mesh(cluster_id="east", network="n1"))

    it = server_of(OPTIONS, settings, "ztunnel", "node-1")

    assert it.node.id == "ztunnel~1.1.1.1~ztunnel-1.istio-system~istio-system.svc.cluster.local"
    assert dict(it.node.metadata) == {
        "NAME": "ztunnel-1",
        "NAMESPACE": "istio-system",
        "CLUSTER_ID": "east",
        "NODE_NAME": "node-1",
        "NETWORK": "n1",
        "ISTIO_VERSION": f"pywaypoint-{version()}",  # not of the form of Istio's own, by which istiod leaves things out
    }
    assert (it.address, it.cluster_id) == ("istiod:15012", "east")


def test_istioctl_lists_a_waypoint_by_the_configuration_that_it_names() -> None:
    it = server_of(OPTIONS, Settings(OwnPod("waypoint-1", "shop")), "waypoint")

    assert it.node.id == "waypoint~1.1.1.1~waypoint-1.shop~shop.svc.cluster.local"
    assert "PROXY_CONFIG" in it.node.metadata.fields


def test_the_namespace_is_needed() -> None:
    with pytest.raises(InvalidSetting, match="POD_NAMESPACE must be set with --discovery"):
        server_of(OPTIONS, Settings(), "ztunnel")
