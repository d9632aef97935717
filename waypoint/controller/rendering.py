"""The objects of one waypoint, made from its Gateway. Pure: the same Gateway gives the same objects.

All are named like the Gateway and owned by it, so that they go when it goes. Pods carry the labels by which Istio's
control plane, Kiali and Grafana know a waypoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l4.discovery.label_names import (
    CANONICAL_NAME,
    CANONICAL_REVISION,
    DATAPLANE_MODE,
    HOSTNAME,
    MANAGED,
    TRAFFIC_DISTRIBUTION,
    ZONE,
)
from waypoint.controller.kinds import OWNED

GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_NAME, GATEWAY_CLASS = f"{GATEWAY_API}/gateway-name", f"{GATEWAY_API}/gateway-class-name"
HBONE, METRICS, READINESS = 15008, 15020, 15021
USER = 65532
_TOKEN_SECONDS = 43200
_DRAIN_SECONDS = 45
_CA_ROOT, _CA_TOKEN = "/var/run/secrets/istio", "/var/run/secrets/tokens"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installation:
    """What all waypoints of an installation share: values of the chart."""

    image: str
    ca_address: str
    pull_policy: str = "IfNotPresent"
    cluster_id: str = "Kubernetes"
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    discovery: str = ""
    """The server that sends the workloads, or empty."""
    workers: str = "1"
    """WAYPOINT_WORKERS of waypoints. It is a variable, not an argument, so that an overlay can replace it."""
    resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    )


@dataclass(frozen=True, slots=True)
class Waypoint:
    """As much of a Gateway as its objects need. `labels` and `annotations` are those of `spec.infrastructure`."""

    namespace: str
    name: str
    uid: str
    class_name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def objects(waypoint: Waypoint, installation: Installation) -> list[Object]:
    """The ServiceAccount comes first: the Deployment's pods need it."""
    return [
        _object("ServiceAccount", waypoint),
        _service(waypoint),
        _deployment(waypoint, installation),
        _autoscaler(waypoint),
        _disruption_budget(waypoint),
    ]


def _object(kind: str, waypoint: Waypoint, **rest: Any) -> Object:
    owner = {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "name": waypoint.name,
        "uid": waypoint.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {
        "name": waypoint.name,
        "namespace": waypoint.namespace,
        "labels": {**_labels(waypoint), **waypoint.labels},
        "annotations": dict(waypoint.annotations),
        "ownerReferences": [owner],
    }
    return {"apiVersion": OWNED[kind].api_version, "kind": kind, "metadata": metadata, **rest}


def _labels(waypoint: Waypoint) -> dict[str, str]:
    return {
        GATEWAY_NAME: waypoint.name,
        GATEWAY_CLASS: waypoint.class_name,
        MANAGED: "istio.io-mesh-controller",
    }


def _service(waypoint: Waypoint) -> Object:
    ports = [
        {"name": "status-port", "port": READINESS, "targetPort": READINESS, "appProtocol": "tcp"},
        {"name": "mesh", "port": HBONE, "targetPort": HBONE, "appProtocol": "hbone"},
    ]
    spec = {"type": "ClusterIP", "selector": {GATEWAY_NAME: waypoint.name}, "ports": ports}
    made = _object("Service", waypoint, spec={**spec, "ipFamilyPolicy": "PreferDualStack"})
    made["metadata"]["annotations"][TRAFFIC_DISTRIBUTION] = "PreferClose"
    return made


def _deployment(waypoint: Waypoint, installation: Installation) -> Object:
    template_labels = {
        **_labels(waypoint),
        DATAPLANE_MODE: "none",
        "sidecar.istio.io/inject": "false",
        CANONICAL_NAME: waypoint.name,
        CANONICAL_REVISION: "latest",
        **waypoint.labels,
    }
    scrape = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS),
        "prometheus.io/path": "/stats/prometheus",
    }
    template = {
        "metadata": {"labels": template_labels, "annotations": {**scrape, **waypoint.annotations}},
        "spec": _pod(waypoint, installation),
    }
    return _object(
        "Deployment",
        waypoint,
        spec={
            "selector": {"matchLabels": {GATEWAY_NAME: waypoint.name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "minReadySeconds": 5,
            "template": template,
        },
    )


def _pod(waypoint: Waypoint, installation: Installation) -> Object:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {GATEWAY_NAME: waypoint.name}},
        }
        for key in (ZONE, HOSTNAME)
    ]
    token = {"audience": "istio-ca", "expirationSeconds": _TOKEN_SECONDS, "path": "istio-token"}
    return {
        "serviceAccountName": waypoint.name,
        "terminationGracePeriodSeconds": _DRAIN_SECONDS + 15,
        "topologySpreadConstraints": spread,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(waypoint, installation)],
        "volumes": [
            {"name": "ca-root", "configMap": {"name": "istio-ca-root-cert"}},
            {"name": "ca-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        ],
    }


def _container(waypoint: Waypoint, installation: Installation) -> Object:
    ports = (("mesh", HBONE), ("metrics", METRICS), ("status-port", READINESS))
    probe = {"path": "/healthz/ready", "port": READINESS}
    root, token = f"{_CA_ROOT}/root-cert.pem", f"{_CA_TOKEN}/istio-token"
    following = {"discovery": installation.discovery, "discovery-root": root, "discovery-token": token}
    return {
        "name": "waypoint",
        "image": installation.image,
        "imagePullPolicy": installation.pull_policy,
        "args": [
            "run",
            "--kubernetes",
            f"--gateway={waypoint.namespace}/{waypoint.name}",
            f"--ca-address={installation.ca_address}",
            f"--ca-root={root}",
            f"--ca-token={token}",
            *(f"--{name}={value}" for name, value in following.items() if installation.discovery),
        ],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "INSTANCE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "SERVICE_ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "TRUST_DOMAIN", "value": installation.trust_domain},
            {"name": "CLUSTER_DOMAIN", "value": installation.cluster_domain},
            {"name": "CLUSTER_ID", "value": installation.cluster_id},
            *([] if installation.workers == "1" else [{"name": "WAYPOINT_WORKERS", "value": installation.workers}]),
        ],
        "ports": [{"name": name, "containerPort": port} for name, port in ports],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 2, "failureThreshold": 3},
        "resources": dict(installation.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "ca-root", "mountPath": _CA_ROOT, "readOnly": True},
            {"name": "ca-token", "mountPath": _CA_TOKEN, "readOnly": True},
        ],
    }


def _autoscaler(waypoint: Waypoint) -> Object:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    return _object(
        "HorizontalPodAutoscaler",
        waypoint,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": waypoint.name},
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": [cpu],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    )


def _disruption_budget(waypoint: Waypoint) -> Object:
    selector = {"matchLabels": {GATEWAY_NAME: waypoint.name}}
    return _object("PodDisruptionBudget", waypoint, spec={"maxUnavailable": 1, "selector": selector})
