"""Objects of a mesh with two waypoints of ours, `east` and `west`, and one of somebody else's."""

MESH = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/ours}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/theirs}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
"""


def gateway(name: str, gateway_class: str = "ours", *, more: str = "", address: str = "10.1.0.1") -> str:
    addresses = f"addresses: [{{value: {address}}}]" if address else "conditions: []"
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop{more}}}
spec: {{gatewayClassName: {gateway_class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
status: {{{addresses}}}
"""


def service(name: str, waypoint: str = "", namespace: str = "shop") -> str:
    labels = f"labels: {{istio.io/use-waypoint: {waypoint}, istio.io/use-waypoint-namespace: shop}}" if waypoint else ""
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, {labels}}}
spec: {{clusterIPs: [], ports: [{{name: http, port: 80, appProtocol: http}}, {{name: db, port: 90, appProtocol: tcp}}]}}
"""


def route(name: str, *parents: str, backend: str = "cart", generation: int = 1, status: str = "{}") -> str:
    refs = ", ".join(f"{{group: '', kind: Service, {it}}}" for it in parents)
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop, generation: {generation}, resourceVersion: "7"}}
spec: {{parentRefs: [{refs}], rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}
status: {status}
"""


def policy(name: str, *services: str, kind: str = "FaultPolicy") -> str:
    refs = ", ".join(f"{{group: '', kind: Service, name: {it}}}" for it in services)
    if kind == "FaultPolicy":
        rules = "rules: [{name: slow, delay: {fixedDelay: 1s, percentage: 100}}]"
        return f"""
---
apiVersion: pywaypoint.dev/v1alpha1
kind: FaultPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {{targetRefs: [{refs}], {rules}}}
"""
    return f"""
---
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop, generation: 4}}
spec: {{targetRefs: [{refs}]}}
"""
