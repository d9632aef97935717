"""Authorization cases: policies, a request as its client writes it, and the expected verdict.

The same table is judged by the policies alone and through real tunnels. A verdict is empty (allowed), `none` (nothing
allowed it), `NAME[INDEX]` (the rule that denied it), or a status with which the request is refused before policies
judge it. All policies target the service `app` of the namespace `default`, whose port 9080 carries HTTP and whose
port 9081 carries bytes; clients call from 127.0.0.1.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

HTTP_PORT, TCP_PORT = 9080, 9081
TOKEN = {
    "iss": "https://issuer.example",
    "sub": "alice",
    "aud": ["shop", "bank"],
    "azp": "frontend",
    "groups": ["admins", "users"],
    "plan": "gold",
    "age": 41,
    "realm": {"roles": ["auditor"], "name": "one", "deep": {"er": "yes"}},
}


VIP = "127.149.0.1"
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "app"},
    "spec": {
        "clusterIP": VIP,
        "ports": [{"name": "http", "port": HTTP_PORT}, {"name": "tcp", "port": TCP_PORT}],
        "selector": {"app": "app"},
    },
}


@dataclass(frozen=True)
class Ask:
    """`account` is empty for a client without an identity; `target` is what stands in the request line."""

    target: str = "/"
    method: str = "GET"
    host: str = "app"
    headers: tuple[str, ...] = ()
    account: str = "client"
    namespace: str = "default"
    claims: Mapping[str, Any] | None = None
    port: int = HTTP_PORT

    def __str__(self) -> str:
        """What is not usual about it."""
        parts = [self.method, self.host, self.target, *self.headers, "token" if self.claims is not None else ""]
        parts.append("" if self.account == "client" else self.account or "nobody")
        return " ".join(filter(None, parts))

    @property
    def raw(self) -> bytes:
        lines = (f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", *self.headers, "", "")
        return "\r\n".join(lines).encode()


@dataclass(frozen=True)
class Case:
    name: str
    policies: tuple[dict[str, Any], ...]
    ask: Ask
    verdict: str

    def __str__(self) -> str:
        return self.name

    @property
    def documents(self) -> str:
        """The service with its two ports, and the policies; JSON is YAML."""
        documents = [{**it, "metadata": {"namespace": "default", **it["metadata"]}} for it in (SERVICE, *self.policies)]
        return "\n---\n".join(map(json.dumps, documents))

    @property
    def detail(self) -> str:
        """What Envoy would call the denial."""
        name, bracket, index = self.verdict.partition("[")
        rule = f"ns[default]-policy[{name}]-rule[{index}" if bracket else name
        return f"rbac_access_denied_matched_policy[{rule}]"


def policy(*rules: dict[str, Any], action: str = "ALLOW", name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "app"}], "action": action, "rules": list(rules), **spec},
    }


def allow(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return policy(*rules, **more)


def deny(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return policy(*rules, action="DENY", **more)


def source(**fields: Any) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def operation(**fields: Any) -> dict[str, Any]:
    return {"to": [{"operation": fields}]}


def when(key: str, *values: str, no: tuple[str, ...] = ()) -> dict[str, Any]:
    condition: dict[str, Any] = {"key": key}
    if values:
        condition["values"] = list(values)
    if no:
        condition["notValues"] = list(no)
    return {"when": [condition]}


EVERYTHING: dict[str, Any] = {}


def _both(name: str, rule: dict[str, Any], ask: Ask, *, matches: bool) -> Iterator[Case]:
    """A rule that matches denies under DENY and allows under ALLOW."""
    yield Case(f"deny: {name}", (deny(rule),), ask, "p[0]" if matches else "")
    yield Case(f"allow: {name}", (allow(rule),), ask, "" if matches else "none")


def cases() -> Iterator[Case]:
    yield from _actions()
    yield from _sources()
    yield from _operations()
    yield from _conditions()
    yield from _repeated()
    yield from _evasions()
    yield from _bytes()
    yield from _broken()


def _actions() -> Iterator[Case]:
    ask = Ask("/x")
    methods = operation(methods=["GET"])
    post = operation(methods=["POST"])
    yield Case("no policy allows", (), ask, "")
    yield Case("ALLOW without rules denies", (allow(),), ask, "none")
    yield Case("ALLOW with an empty rule allows", (allow(EVERYTHING),), ask, "")
    yield Case("DENY with an empty rule denies", (deny(EVERYTHING),), ask, "p[0]")
    yield Case("AUDIT decides nothing", (policy(EVERYTHING, action="AUDIT"),), ask, "")
    yield Case("DENY comes before ALLOW", (allow(EVERYTHING, name="a"), deny(methods, name="d")), ask, "d[0]")
    yield Case("DENY that is not for it leaves it to ALLOW", (allow(methods, name="a"), deny(post, name="d")), ask, "")
    yield Case("neither DENY nor ALLOW", (allow(post, name="a"), deny(post, name="d")), ask, "none")
    yield Case("one of several ALLOW is enough", (allow(post, name="a"), allow(methods, name="b")), ask, "")
    yield Case("ALLOW without rules beside one that allows", (allow(name="a"), allow(methods, name="b")), ask, "")
    yield Case("none of several ALLOW", (allow(post, name="a"), allow(name="b")), ask, "none")
    yield Case("the first DENY by name is told", (deny(methods, name="z"), deny(methods, name="a")), ask, "a[0]")
    yield Case("the second rule is told by its number", (deny(post, methods),), ask, "p[1]")
    yield Case(
        "rules are told in the order of their names", (deny(*[post] * 2, methods, *[post] * 7, methods),), ask, "p[10]"
    )
    yield Case("a policy on trial denies nobody", (_trial(deny(EVERYTHING)),), ask, "")
    yield Case("a policy on trial is no ALLOW that is needed", (_trial(allow(post)),), ask, "")
    yield Case("a policy on trial allows nothing", (_trial(allow(EVERYTHING, name="t")), allow(post)), ask, "none")
    yield Case("a trial that is switched off is none", (_trial(deny(EVERYTHING), "false"),), ask, "p[0]")
    for rule, matches in (
        (methods | source(namespaces=["default"]), True),
        (methods | source(namespaces=["other"]), False),
        (post | source(namespaces=["default"]), False),
        (methods | when("request.headers[a]", "b"), False),
        (methods | source(namespaces=["default"]) | when("source.namespace", "default"), True),
        ({"to": [{"operation": {"methods": ["POST"]}}, {"operation": {"paths": ["/x"]}}]}, True),
        ({"to": [{"operation": {"methods": ["POST"], "paths": ["/x"]}}]}, False),
        ({"from": [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["default"]}}]}, True),
        ({"from": [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["b"]}}]}, False),
        ({"when": [*when("source.namespace", "default")["when"], *when("source.ip", "10.0.0.1")["when"]]}, False),
    ):
        yield from _both(f"and, or: {rule}", rule, ask, matches=matches)


def _trial(spec: dict[str, Any], value: str = "true") -> dict[str, Any]:
    return {**spec, "metadata": {**spec["metadata"], "annotations": {"istio.io/dry-run": value}}}


def _sources() -> Iterator[Case]:
    nobody = Ask(account="")
    client = "cluster.local/ns/default/sa/client"
    for fields, matches, anonymous in (
        ({"principals": [client]}, True, False),
        ({"principals": [f"spiffe://{client}"]}, True, False),
        ({"principals": ["cluster.local/ns/default/sa/other"]}, False, False),
        ({"principals": ["cluster.local/ns/default/sa/*"]}, True, False),
        ({"principals": ["*/sa/client"]}, True, False),
        ({"principals": ["*/sa/clien"]}, False, False),
        ({"principals": ["*"]}, True, False),
        ({"principals": ["elsewhere.org/ns/default/sa/client"]}, False, False),
        ({"principals": ["CLUSTER.LOCAL/ns/default/sa/client"]}, False, False),
        ({"notPrincipals": [client]}, False, True),
        ({"notPrincipals": ["*"]}, False, True),
        ({"notPrincipals": ["cluster.local/ns/default/sa/other"]}, True, True),
        ({"namespaces": ["default"]}, True, False),
        ({"namespaces": ["def*"]}, True, False),
        ({"namespaces": ["*ault"]}, True, False),
        ({"namespaces": ["*"]}, True, False),
        ({"namespaces": ["other", "default"]}, True, False),
        ({"namespaces": ["defaul"]}, False, False),
        ({"notNamespaces": ["default"]}, False, True),
        ({"notNamespaces": ["*"]}, False, True),
        ({"notNamespaces": ["other"]}, True, True),
        ({"trustDomains": ["cluster.local"]}, True, False),
        ({"trustDomains": ["cluster.*"]}, True, False),
        ({"trustDomains": ["elsewhere.org"]}, False, False),
        ({"notTrustDomains": ["cluster.local"]}, False, True),
        ({"notTrustDomains": ["elsewhere.org"]}, True, True),
        ({"serviceAccounts": ["default/client"]}, True, False),
        ({"serviceAccounts": ["client"]}, True, False),
        ({"serviceAccounts": ["other/client"]}, False, False),
        ({"notServiceAccounts": ["client"]}, False, True),
        ({"notServiceAccounts": ["other/client"]}, True, True),
        ({"ipBlocks": ["127.0.0.1"]}, True, True),
        ({"ipBlocks": ["127.0.0.0/8"]}, True, True),
        ({"ipBlocks": ["127.9.9.9/8"]}, True, True),
        ({"ipBlocks": ["10.0.0.0/8", "2001:db8::/32"]}, False, False),
        ({"ipBlocks": ["::/0"]}, False, False),
        ({"notIpBlocks": ["127.0.0.0/8"]}, False, False),
        ({"notIpBlocks": ["10.0.0.0/8"]}, True, True),
        ({"namespaces": ["default"], "notPrincipals": [client]}, False, False),
        ({"namespaces": ["default"], "ipBlocks": ["127.0.0.1"]}, True, False),
        ({"namespaces": ["default"], "ipBlocks": ["10.0.0.1"]}, False, False),
    ):
        yield from _both(f"source {fields}", source(**fields), Ask(), matches=matches)
        yield Case(
            f"deny: without identity, source {fields}", (deny(source(**fields)),), nobody, "p[0]" if anonymous else ""
        )
    spoof = ("x-forwarded-client-cert: By=spiffe://a;URI=spiffe://cluster.local/ns/default/sa/admin",)
    admin = source(principals=["cluster.local/ns/default/sa/admin"])
    yield Case("a header gives nobody an identity", (allow(admin),), Ask(headers=spoof), "none")
    baggage = ("baggage: k8s.namespace.name=admin,service.name=admin",)
    yield Case("baggage gives nobody a namespace", (allow(source(namespaces=["admin"])),), Ask(headers=baggage), "none")
    for forwarded, blocks, matches in (
        ("", ["127.0.0.1"], True),
        ("", ["203.0.113.0/24"], False),
        ("203.0.113.7", ["203.0.113.0/24"], True),
        ("203.0.113.7", ["127.0.0.1"], False),
        ("127.0.0.1, 203.0.113.7", ["203.0.113.7"], True),
        ("203.0.113.7, 127.0.0.1", ["203.0.113.7"], False),
        ("203.0.113.7,", ["203.0.113.7"], False),
        ("unknown", ["127.0.0.1"], True),
        ("unknown", ["203.0.113.7"], False),
        ("::ffff:203.0.113.7", ["203.0.113.7"], True),
        ("2001:db8::1", ["2001:db8::/32"], True),
    ):
        headers = (f"x-forwarded-for: {forwarded}",) if forwarded else ()
        yield from _both(
            f"remote {forwarded!r} in {blocks}", source(remoteIpBlocks=blocks), Ask(headers=headers), matches=matches
        )
        denied = deny(source(notRemoteIpBlocks=blocks))
        yield Case(
            f"deny: remote {forwarded!r} not in {blocks}", (denied,), Ask(headers=headers), "" if matches else "p[0]"
        )
    alice = Ask(claims=TOKEN)
    for fields, matches, without in (
        ({"requestPrincipals": ["https://issuer.example/alice"]}, True, False),
        ({"requestPrincipals": ["https://issuer.example/*"]}, True, False),
        ({"requestPrincipals": ["*/alice"]}, True, False),
        ({"requestPrincipals": ["*"]}, True, False),
        ({"requestPrincipals": ["https://issuer.example/bob"]}, False, False),
        ({"notRequestPrincipals": ["*"]}, False, True),
        ({"notRequestPrincipals": ["https://issuer.example/bob"]}, True, True),
    ):
        yield from _both(f"token, source {fields}", source(**fields), alice, matches=matches)
        yield from _both(f"no token, source {fields}", source(**fields), Ask(), matches=without)
    half = Ask(claims={"iss": "https://issuer.example"})
    yield Case("a token without a subject has no principal", (allow(source(requestPrincipals=["*"])),), half, "none")


def _operations() -> Iterator[Case]:
    for fields, ask, matches in (
        ({"methods": ["GET"]}, Ask(), True),
        ({"methods": ["get"]}, Ask(), False),
        ({"methods": ["GET", "HEAD"]}, Ask(method="HEAD"), True),
        ({"methods": ["P*"]}, Ask(method="POST"), True),
        ({"methods": ["*"]}, Ask(method="DELETE"), True),
        ({"notMethods": ["GET"]}, Ask(method="HEAD"), True),
        ({"notMethods": ["GET", "HEAD"]}, Ask(method="HEAD"), False),
        ({"paths": ["/a"]}, Ask("/a"), True),
        ({"paths": ["/a"]}, Ask("/a?b=c"), True),
        ({"paths": ["/a"]}, Ask("/a/"), False),
        ({"paths": ["/a"]}, Ask("/A"), False),
        ({"paths": ["/a*"]}, Ask("/a/b"), True),
        ({"paths": ["*/b"]}, Ask("/a/b"), True),
        ({"paths": ["*.jpg"]}, Ask("/a.php?x=.jpg"), False),
        ({"paths": ["/*"]}, Ask("/"), True),
        ({"paths": ["*"]}, Ask("/"), True),
        ({"notPaths": ["/a"]}, Ask("/b"), True),
        ({"notPaths": ["/a", "/b"]}, Ask("/b"), False),
        ({"notPaths": ["/public/*"]}, Ask("/public/../admin"), True),
        ({"notPaths": ["/public/*"]}, Ask("/public/a"), False),
        ({"paths": ["/a/{*}"]}, Ask("/a/b"), True),
        ({"paths": ["/a/{*}"]}, Ask("/a/"), False),
        ({"paths": ["/a/{*}"]}, Ask("/a/b/c"), False),
        ({"paths": ["/a/{*}/c"]}, Ask("/a/b/c"), True),
        ({"paths": ["/a/{*}/c"]}, Ask("/a//c"), False),
        ({"paths": ["/a/{**}"]}, Ask("/a/b/c"), True),
        ({"paths": ["/a/{**}"]}, Ask("/a/"), True),
        ({"paths": ["/a/{**}"]}, Ask("/a"), False),
        ({"paths": ["/{*}/b/{**}"]}, Ask("/x/b/y/z"), True),
        ({"paths": ["/{*}/b/{**}"]}, Ask("/x/c/y/z"), False),
        ({"paths": ["/a/{*}"]}, Ask("/a/b|c"), True),
        ({"paths": ["/a/{*}"]}, Ask("/a/b;c=d"), True),
        ({"paths": ["/a/{*}"]}, Ask("/a/%2F"), True),
        ({"paths": ["/store/{**}/cart"]}, Ask("/store/a/b/cart"), True),
        ({"paths": ["/store/{**}/cart"]}, Ask("/store/a/b/basket"), False),
        ({"paths": ["/secret%2fx"]}, Ask("/secret%2fx"), True),
        ({"paths": ["/secret%2fx"]}, Ask("/secret%2Fx"), False),
        ({"paths": ["/%61dmin"]}, Ask("/admin"), True),
        ({"notPaths": ["/a/{*}"]}, Ask("/a/b"), False),
        ({"hosts": ["app"]}, Ask(), True),
        ({"hosts": ["APP"]}, Ask(host="aPP"), True),
        ({"hosts": ["app"]}, Ask(host="app:9080"), True),
        ({"hosts": ["app"]}, Ask(host="app."), True),
        ({"hosts": ["app"]}, Ask(host="app.:9080"), True),
        ({"hosts": ["app:9080"]}, Ask(host="app:9080"), True),
        ({"hosts": ["app:9080"]}, Ask(host="app:1"), False),
        ({"hosts": ["app:9080"]}, Ask(host="app"), False),
        ({"hosts": ["app.*"]}, Ask(host="app.example.com:9080"), True),
        ({"hosts": ["*.example.com"]}, Ask(host="app.example.com:9080"), True),
        ({"hosts": ["*.example.com"]}, Ask(host="example.com"), False),
        ({"hosts": ["*"]}, Ask(host="anything"), True),
        ({"hosts": ["app"]}, Ask(host="app.evil.com"), False),
        ({"notHosts": ["app"]}, Ask(host="APP:1"), False),
        ({"notHosts": ["app"]}, Ask(host="other"), True),
        ({"hosts": ["[2001:db8::1]"]}, Ask(host="[2001:db8::1]:80"), True),
        ({"ports": ["9080"]}, Ask(), True),
        ({"ports": ["80", "9080"]}, Ask(), True),
        ({"ports": ["9081"]}, Ask(), False),
        ({"notPorts": ["9081"]}, Ask(), True),
        ({"notPorts": ["9080"]}, Ask(), False),
    ):
        yield from _both(f"{ask.method} {ask.host} {ask.target}: {fields}", operation(**fields), ask, matches=matches)


def _conditions() -> Iterator[Case]:
    one, two = Ask(headers=("x-a: 1",)), Ask(headers=("x-a: 1", "X-A: 2"))
    empty, without = Ask(headers=("x-a:",)), Ask()
    name = "request.headers[x-a]"
    token = Ask(claims=TOKEN)

    def claim(path: str, *values: str, no: tuple[str, ...] = ()) -> dict[str, Any]:
        return when(f"request.auth.claims{path}", *values, no=no)

    for rule, ask, matches in (
        (when(name, "1"), one, True),
        (when("request.headers[X-A]", "1"), one, True),
        (when(name, "2"), one, False),
        (when(name, "1"), without, False),
        (when(name, "*"), one, True),
        (when(name, "*"), empty, False),
        (when(name, "*"), without, False),
        (when(name, no=("1",)), one, False),
        (when(name, no=("1",)), without, True),
        (when(name, no=("*",)), without, True),
        (when(name, no=("*",)), one, False),
        (when(name, "1,2"), two, True),
        (when(name, "*2"), two, True),
        (when(name, "1", no=("2",)), one, True),
        (when("request.headers[host]", "app"), without, True),
        (when("request.headers[:authority]", "app"), without, True),
        (when("request.headers[:method]", "GET"), without, True),
        (when("request.headers[:path]", "/?a=b"), Ask("/?a=b"), True),
        (when("request.headers[cookie]", "a=1; b=2"), Ask(headers=("cookie: a=1; b=2",)), True),
        (when("source.ip", "127.0.0.0/8"), without, True),
        (when("source.ip", no=("127.0.0.1",)), without, False),
        (when("remote.ip", "203.0.113.7"), Ask(headers=("x-forwarded-for: 203.0.113.7",)), True),
        (when("source.namespace", "default"), without, True),
        (when("source.namespace", no=("default",)), without, False),
        (when("source.principal", "*/sa/client"), without, True),
        (when("source.principal", "*"), Ask(account=""), False),
        (when("source.trustDomain", "cluster.local"), without, True),
        (when("source.trustDomain", no=("cluster.local",)), without, False),
        (when("source.serviceAccount", "default/client"), without, True),
        (when("destination.port", "9080"), without, True),
        (when("destination.port", no=("9080",)), without, False),
        (when("destination.ip", "127.0.0.0/8"), without, True),
        (when("destination.ip", "10.0.0.0/8"), without, False),
        (when("destination.ip", no=("127.0.0.0/8",)), without, False),
        (when("connection.sni", "*"), without, False),
        (when("connection.sni", no=("*",)), without, True),
        (when("request.auth.principal", "https://issuer.example/alice"), token, True),
        (when("request.auth.principal", "*"), without, False),
        (when("request.auth.audiences", "shop"), token, True),
        (when("request.auth.audiences", "bank"), token, True),
        (when("request.auth.audiences", "casino"), token, False),
        (when("request.auth.audiences", "shop", "x"), Ask(claims={"aud": "shop"}), True),
        (when("request.auth.presenter", "frontend"), token, True),
        (when("request.auth.presenter", no=("frontend",)), token, False),
        (claim("[groups]", "admins"), token, True),
        (claim("[groups]", "adm*"), token, True),
        (claim("[groups]", "guests"), token, False),
        (claim("[groups]", no=("admins",)), token, False),
        (claim("[groups]", no=("guests",)), token, True),
        (claim("[groups]", no=("admins",)), without, True),
        (claim("[plan]", "gold"), token, True),
        (claim("[age]", "41"), token, False),
        (claim("[realm]", "*"), token, False),
        (claim("[realm][roles]", "auditor"), token, True),
        (claim("[realm][name]", "one"), token, True),
        (claim("[realm][deep][er]", "yes"), token, True),
        (claim("[realm][roles][name]", "auditor"), token, False),
        (claim("[plan][gold]", "*"), token, False),
        (claim("[missing]", "*"), token, False),
        (claim("[missing]", no=("*",)), token, True),
        (claim("[groups]", "admins"), Ask(headers=("authorization: Bearer e30.e30.e30",)), False),
    ):
        yield from _both(f"{ask}: {rule['when'][0]}", rule, ask, matches=matches)


def _repeated() -> Iterator[Case]:
    """Each value of a header counts where it denies, and all of them together where they allow."""
    name, two = "request.headers[x-a]", Ask(headers=("x-a: 1", "X-A: 2"))
    for rule, denied, allowed in (
        (when(name, "1"), "p[0]", "none"),
        (when(name, "2"), "p[0]", "none"),
        (when(name, "3"), "", "none"),
        (when(name, "1", "2"), "p[0]", "none"),
        (when(name, "1", "1,2"), "p[0]", ""),
        (when(name, "1*", no=("*2",)), "p[0]", "none"),
        (when(name, no=("1*",)), "p[0]", "none"),
        (when(name, no=("*",)), "", "none"),
        (when(name, no=("1",)), "p[0]", "none"),
        (when(name, no=("1", "2")), "p[0]", "none"),
        (when(name, no=("3",)), "p[0]", ""),
        (when(name, no=("1", "2", "1,2")), "", "none"),
    ):
        yield Case(f"deny: repeated header, {rule['when'][0]}", (deny(rule),), two, denied)
        yield Case(f"allow: repeated header, {rule['when'][0]}", (allow(rule),), two, allowed)


def _evasions() -> Iterator[Case]:
    """Ways to write what a DENY of `/admin` and below is about, and what becomes of them."""
    admin = deny(operation(paths=["/admin", "/admin/*"]))
    for target, verdict in (
        ("/admin", "p[0]"),
        ("/admin?x=/public", "p[0]"),
        ("/admin/", "p[0]"),
        ("/./admin", "p[0]"),
        ("/a/../admin", "p[0]"),
        ("/a/b/../../admin", "p[0]"),
        ("/../admin", "p[0]"),
        ("/a/%2e%2e/admin", "p[0]"),
        ("/a/.%2E/admin", "p[0]"),
        ("/%61dmin", "p[0]"),
        ("/%61%64%6D%69%6e", "p[0]"),
        ("/a\\..\\admin", "p[0]"),
        ("\\admin", "400"),
        ("/admin%00", "400"),
        ("/%2561dmin", ""),
        ("/admin%2Fx", ""),
        ("/admin%2fx", ""),
        ("/a/..%2fadmin", ""),
        ("//admin", ""),
        ("/admin;x=1", "p[0]"),
        ("/admin;/x", "p[0]"),
        ("/;x/admin", ""),
        ("/a/..;/admin", "p[0]"),
        ("/a/..;x=1/admin/b;y", "p[0]"),
        ("/a;x/../admin", "p[0]"),
        ("/a/.;/../admin", ""),
        ("/admin%3Bx", ""),
        ("/;/admin", ""),
        ("/ADMIN", ""),
        ("/Admin", ""),
        ("/admin#x", "p[0]"),
        ("/%2%34%31", "400"),
        ("http://app/admin", "p[0]"),
        ("HTTP://APP/admin", "p[0]"),
        ("http://app/a/../admin", "p[0]"),
        ("http://app?/admin", ""),
        ("http://app:9080/admin?", "p[0]"),
        ("admin", "400"),
        ("/admin/%2e", "p[0]"),
        ("/admin/..", ""),
        ("/adm\tin", "400"),
    ):
        yield Case(f"evasion of a DENY: {target!r}", (admin,), Ask(target), verdict)
    public = allow(operation(paths=["/public", "/public/*"]))
    for target, verdict in (
        ("/public/a", ""),
        ("/public/../admin", "none"),
        ("/public/..", "none"),
        ("/public/%2e%2e/admin", "none"),
        ("/public/..%2fadmin", ""),
        ("/public\\..\\admin", "none"),
        ("//public/a", "none"),
        ("/PUBLIC/a", "none"),
        ("/public/..;/admin", "none"),
        ("/public/a;v=1", ""),
        ("/public;v=1/a", "none"),
        ("/public;/../admin", "none"),
        ("/publicity", "none"),
        ("http://app/public/../admin", "none"),
        ("/%70ublic/a", ""),
        ("/admin?/public/a", "none"),
        ("/admin#/public/a", "none"),
    ):
        yield Case(f"evasion of an ALLOW: {target!r}", (public,), Ask(target), verdict)
    internal = deny(operation(hosts=["internal.example.com"]))
    for host, verdict in (
        ("internal.example.com", "p[0]"),
        ("INTERNAL.example.COM", "p[0]"),
        ("internal.example.com.", "p[0]"),
        ("internal.example.com:443", "p[0]"),
        ("Internal.Example.Com.:443", "p[0]"),
        ("internal.example.com:", "400"),
        ("internal.example.com:99999", "p[0]"),
        ("internal.example.com:80:80", "400"),
        ("internal.example.com, other", "400"),
        ("user@internal.example.com", "400"),
        ("internal.example.com/x", "400"),
        ("internal%2eexample.com", "400"),
        ("internal.example.com..", "400"),
        ("", "400"),
        ("other.example.com", ""),
    ):
        yield Case(f"evasion by host: {host!r}", (internal,), Ask(host=host), verdict)
    absolute = Ask("http://internal.example.com/", host="other.example.com")
    yield Case("absolute form beats Host", (internal,), absolute, "p[0]")
    other = Ask("http://other.example.com/", host="internal.example.com")
    yield Case("Host does not beat absolute form", (internal,), other, "")
    twice = Ask(headers=("Host: other.example.com",), host="internal.example.com")
    yield Case("two hosts are none", (internal,), twice, "400")
    secret = allow(when("request.headers[x-key]", "secret"))
    for headers, verdict in (
        (("x-key: secret",), ""),
        (("X-KEY: secret",), ""),
        (("x-key: secret ",), ""),
        (("x-key: Secret",), "none"),
        (("x-key: secret", "x-key: wrong"), "none"),
        (("x-key: wrong", "x-key: secret"), "none"),
        (("x-key: secret, wrong",), "none"),
        (("x-key: secret,",), "none"),
        (("x-key: secret", "x-key:"), "none"),
        (("x_key: secret",), "none"),
        (("connection: x-key", "x-key: secret"), "none"),
        (("x-key : secret",), "400"),
        ((" x-key: secret",), "400"),
        (("x-key:\tsecret",), ""),
        (("x-other: a\n x-key: secret",), "400"),
    ):
        yield Case(f"evasion by header: {headers}", (secret,), Ask(headers=headers), verdict)
    get = deny(operation(methods=["GET"]))
    for method, headers, verdict in (
        ("GET", (), "p[0]"),
        ("get", (), "400"),
        ("HEAD", (), ""),
        ("POST", ("x-http-method-override: GET",), ""),
        ("GET", ("x-http-method-override: POST",), "p[0]"),
        ("TRACE", (), "405"),
    ):
        yield Case(f"evasion by method: {method} {headers}", (get,), Ask(method=method, headers=headers), verdict)


def _bytes() -> Iterator[Case]:
    """What looks at HTTP can't be asked of bytes: an ALLOW takes less then, a DENY more."""
    client, stranger = Ask(port=TCP_PORT), Ask(port=TCP_PORT, account="other")
    mine = source(serviceAccounts=["client"])
    http = operation(paths=["/a"])
    for policies, ask, verdict in (
        ((), client, ""),
        ((allow(mine),), client, ""),
        ((allow(mine),), stranger, "none"),
        ((deny(mine),), client, "p[0]"),
        ((deny(mine),), stranger, ""),
        ((allow(http),), client, "none"),
        ((allow(mine | http),), client, "none"),
        ((allow(http, mine),), client, ""),
        ((deny(http),), client, "p[0]"),
        ((deny(mine | http),), client, "p[0]"),
        ((deny(mine | http),), stranger, ""),
        ((deny(http, mine),), stranger, "p[0]"),
        ((deny(operation(paths=["/a"], ports=["9081"])),), client, "p[0]"),
        ((deny(operation(paths=["/a"], ports=["9080"])),), client, ""),
        ((deny(operation(notMethods=["GET"])),), client, "p[0]"),
        ((deny(when("request.headers[a]", "b")),), client, "p[0]"),
        ((deny(when("request.auth.claims[a]", "b")),), client, "p[0]"),
        ((deny(source(remoteIpBlocks=["10.0.0.0/8"])),), client, "p[0]"),
        ((deny(source(ipBlocks=["10.0.0.0/8"])),), client, ""),
        ((allow(source(requestPrincipals=["*"])),), client, "none"),
        ((allow(operation(ports=["9081"])),), client, ""),
        ((allow(operation(ports=["9080"])),), client, "none"),
        ((allow(when("connection.sni", "*")),), client, "none"),
        ((allow(EVERYTHING),), client, ""),
        ((allow(),), client, "none"),
        ((policy(http, action="AUDIT"),), client, ""),
    ):
        yield Case(f"bytes of {ask.account}: {[it['spec'] for it in policies]}", policies, ask, verdict)


def _broken() -> Iterator[Case]:
    """A policy that can't be understood denies, whatever its action was."""
    for name, broken in (
        ("DENY without rules, as when the rest of it is missing", deny()),
        ("unknown field of a rule", allow({"form": []})),
        ("unknown field of a source", allow(source(principal=["a"]))),
        ("unknown field of an operation", allow(operation(path=["/a"]))),
        ("empty source", allow(source())),
        ("empty operation", allow(operation())),
        ("empty text", allow(source(namespaces=[""]))),
        ("rule that is nothing", allow(None)),  # type: ignore[arg-type]
        ("port that is a word", allow(operation(ports=["http"]))),
        ("port beyond the last", deny(operation(ports=["70000"]))),
        ("port that is a number in YAML", allow(operation(ports=[80]))),
        ("address that is none", deny(source(ipBlocks=["10.0.0.0/99"]))),
        ("unknown key", deny(when("source.user", "a"))),
        ("key of an Envoy filter", deny(when("experimental.envoy.filters.a[b]", "c"))),
        ("header without a name", deny(when("request.headers[]", "a"))),
        ("header of framing", deny(when("request.headers[content-length]", "0"))),
        ("condition without values", allow(when("source.ip"))),
        ("wildcard within a namespace", deny(source(namespaces=["a*b"]))),
        ("wildcard in an account", deny(source(serviceAccounts=["a/*"]))),
        ("accounts beside principals", deny(source(serviceAccounts=["a"], principals=["*"]))),
        ("template with its end in the middle", deny(operation(paths=["/a/{**}/{*}"]))),
        ("template with half a segment", deny(operation(paths=["/a/{*}b"]))),
        ("unknown action", policy(action="REFUSE")),
        ("CUSTOM without provider", policy(EVERYTHING, action="CUSTOM")),
        ("provider without CUSTOM", allow(EVERYTHING, provider={"name": "a"})),
        ("selector beside targetRefs", allow(EVERYTHING, selector={"matchLabels": {"app": "app"}})),
        ("targetRefs that are no list", allow(EVERYTHING, targetRefs="app")),
    ):
        yield Case(f"broken: {name}", (broken,), Ask(), "p[0]")
    audit = policy(None, action="AUDIT")  # type: ignore[arg-type]
    yield Case("broken: AUDIT decides nothing anyway", (audit,), Ask(), "")
    yield Case("broken: a policy on trial decides nothing anyway", (_trial(deny(None)),), Ask(), "")  # type: ignore[arg-type]
    good = allow(EVERYTHING, name="good")
    yield Case("broken: beside one that allows", (good, allow(source())), Ask(), "p[0]")


CASES = tuple(cases())
