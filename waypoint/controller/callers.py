"""Who calls the certificate authority, by a service account token, and for which identities it may ask.

A caller may have a certificate of its own service account. The proxy of a node may also ask for the accounts of pods on
its node: its account is a trusted node account, its token is bound to a pod, that pod exists, and a pod of the wanted
account runs on the same node. These are the rules of Istio's CA_TRUSTED_NODE_ACCOUNTS.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from policies.attributes import Identity

AUDIENCE = "istio-ca"
TOKEN_REVIEWS = ResourceType("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", is_namespaced=False)
PODS = ResourceType("", "v1", "pods", "Pod")
_USER = "system:serviceaccount:"
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
_FINISHED = ("Succeeded", "Failed")

T = TypeVar("T")


class Denied(Exception):
    """The caller is unknown, or may not have what it asks for. The message is for the audit log, not for the caller."""


class Unsure(Exception):
    """The API server cannot be asked who the caller is."""


class _User(msgspec.Struct):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _TokenReviewStatus(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] = []
    error: str = ""


class _TokenReview(msgspec.Struct):
    status: _TokenReviewStatus = msgspec.field(default_factory=_TokenReviewStatus)


class _PodSpec(msgspec.Struct, rename="camel"):
    service_account_name: str = "default"
    node_name: str = ""


class _PodStatus(msgspec.Struct):
    phase: str = ""


class _PodMeta(msgspec.Struct):
    name: str = ""
    uid: str = ""


class _Pod(msgspec.Struct):
    metadata: _PodMeta
    spec: _PodSpec
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    @property
    def is_running(self) -> bool:
        return self.status.phase not in _FINISHED


class _Pods(msgspec.Struct):
    items: list[_Pod] = []


@dataclass(frozen=True, slots=True)
class Caller:
    """`pod` is the name and UID of the pod that the token is bound to; both are empty if there is none."""

    namespace: str
    service_account: str
    pod: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service_account}"


class Callers:
    """Asks the API server. `node_accounts` are the `NAMESPACE/SERVICE_ACCOUNT` of nodes' proxies."""

    def __init__(self, client: ApiClient, trust_domain: str, node_accounts: Collection[str]) -> None:
        self._client = client
        self._trust_domain = trust_domain
        self._node_accounts = frozenset(node_accounts)

    async def identify(self, token: str) -> Caller:
        """Raises Denied and Unsure."""
        review = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            answer = await self._client.create(TOKEN_REVIEWS.path(), review)
        except ApiError as error:
            raise Unsure(str(error)) from None
        status = _decoded(answer, _TokenReview).status
        if not status.authenticated or AUDIENCE not in status.audiences:
            raise Denied(f"the token is not valid for the audience {AUDIENCE}: {status.error or 'no reason given'}")
        namespace, _, account = status.user.username.removeprefix(_USER).partition(":")
        if not status.user.username.startswith(_USER) or not namespace or not account:
            raise Denied(f"{status.user.username!r} is not a service account")
        name, uid = (next(iter(status.user.extra.get(it, ())), "") for it in (_POD_NAME, _POD_UID))
        return Caller(namespace, account, (name, uid))

    async def granted(self, caller: Caller, wanted: str) -> Identity:
        """Return the identity that the caller gets. `wanted` is empty, or the identity that a node's proxy asks for.
        Raises Denied and Unsure."""
        own = Identity(self._trust_domain, caller.namespace, caller.service_account)
        if not wanted or wanted == str(own):
            return own
        try:
            identity = Identity.parse(wanted)
        except ValueError as error:
            raise Denied(f"the wanted identity is malformed: {error}") from None
        if str(caller) not in self._node_accounts:
            raise Denied(f"it asks for {wanted}, but is not a trusted node account")
        if identity.trust_domain != self._trust_domain:
            raise Denied(f"it asks for {wanted}, but the trust domain is {self._trust_domain}")
        node = await self._node_of(caller)
        pods = await self._pods(identity.namespace, f"spec.nodeName={node}")
        account = identity.service_account
        if not any(it.spec.service_account_name == account and it.spec.node_name == node for it in pods):
            raise Denied(f"it asks for {wanted}, but no pod of that account runs on its node {node}")
        return identity

    async def _node_of(self, caller: Caller) -> str:
        name, uid = caller.pod
        if not name or not uid:
            raise Denied("its token is not bound to a pod")
        for pod in await self._pods(caller.namespace, f"metadata.name={name}"):
            is_callers = (pod.metadata.name, pod.metadata.uid) == caller.pod
            if is_callers and pod.spec.service_account_name == caller.service_account and pod.spec.node_name:
                return pod.spec.node_name
        raise Denied(f"the pod {name} with the UID {uid}, to which its token is bound, does not run")

    async def _pods(self, namespace: str, selector: str) -> list[_Pod]:
        """Return the running pods."""
        try:
            answer = await self._client.get(PODS.path(namespace), {"fieldSelector": selector})
        except ApiError as error:
            raise Unsure(str(error)) from None
        return [it for it in _decoded(answer, _Pods).items if it.is_running]


def _decoded(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:
        raise Unsure(f"the API server's answer cannot be decoded: {error}") from None
