"""Routes in words, for people who ask why: short, in the API's own terms, on one line each."""

from collections.abc import Iterator
from datetime import UTC, datetime

from policies.attributes import ClusterName
from policies.cors import Cors
from policies.external_auth import Authorizer
from policies.fault import Fault
from policies.fault_plan import FaultPlan
from policies.filters import Filters
from policies.jwt import Authentication, InlineKeys, RemoteKeys
from policies.matching import Prefix, Regex, StringMatch
from policies.mirror import Mirror
from policies.path_match import PathKind
from policies.rate_limit import RateLimits
from policies.retry import RetryPolicy
from policies.rewrite import AnyPathEdit, HeaderEdit, Redirect, RegexEdit, TextPrefixEdit, UrlRewrite
from policies.route import FieldMatch, Match, Rule, SourceMatch
from policies.schedule import Schedule
from policies.selector import (
    Condition,
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
)
from policies.session import SessionPersistence
from policies.token_locations import CookieLocation, HeaderLocation, Location, ParamLocation


def text(value: bytes) -> str:
    """What came from a client or goes to an endpoint; what is no printable ASCII is escaped."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in value)


def rule_name(rule: Rule) -> str:
    """The object a rule stands in, and its own name if it has one."""
    source = rule.source
    if source is None:
        return f"{rule.name} route"
    is_named = rule.name != f"{source.namespace}.{source.name}.{source.index}"
    return f"{source} ({rule.name})" if is_named else str(source)


def cluster_name(cluster: ClusterName) -> str:
    """`reviews.default:9080`, out of Envoy's `inbound-vip|9080|http|reviews.default.svc.cluster.local`."""
    parts = cluster.split("|")
    return f"{parts[3].partition('.svc.')[0]}:{parts[1]}" if len(parts) == 4 else cluster


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


# -- matches -------------------------------------------------------------------------------------------------------


def match_words(match: Match) -> str:
    """`path prefix /v2, method GET, header end-user = jason`."""
    return ", ".join(_parts(match))


def _parts(match: Match) -> Iterator[str]:
    value = text(match.path.value)
    match match.path.kind:
        case PathKind.EXACT:
            yield f"path = {value}"
        case PathKind.PREFIX:
            yield f"path prefix {value}" if match.path.prefix else "every path"
        case PathKind.TEXT_PREFIX:
            yield f"path = {value}*"
        case PathKind.REGEX:
            yield f"path ~ {value}"
    if match.method is not None:
        yield f"method {text(match.method)}"
    yield from (f"header {_field(it)}" for it in match.headers)
    yield from (f"query {_field(it)}" for it in match.query)
    yield from (f"no header {_field(it)}" for it in match.without)
    if match.source is not None:
        yield from _source(match.source)


def _source(source: SourceMatch) -> Iterator[str]:
    if source.namespace is not None:
        yield f"clients of namespace {source.namespace}"
    if source.ips is not None:
        yield f"clients at {', '.join(sorted(source.ips)) or 'no address'}"


def _field(field: FieldMatch) -> str:
    return f"{text(field.name)} {wanted(field)}"


def wanted(field: FieldMatch) -> str:
    star = "*" if isinstance(field.match, Prefix) else ""
    return f"{'~' if isinstance(field.match, Regex) else '='} {text(field.match.value)}{star}"


# -- what is done --------------------------------------------------------------------------------------------------


def rule_words(rule: Rule) -> list[str]:
    """What a rule does beside choosing a backend."""
    words = [*(_limits(rule.limits) if rule.limits is not None else ())]
    words += [*(_plan(rule.fault_plan) if rule.fault_plan is not None else ())]
    words += [*(_fault(rule.fault) if rule.fault is not None else ()), *filter_words(rule.filters)]
    if rule.timeouts.request is not None:
        words.append(f"timeout {seconds(rule.timeouts.request)} for the whole exchange")
    if rule.retry is not None:
        words.append(_retry(rule.retry))
    if rule.session is not None:
        words.append(_session(rule.session))
    return words


def filter_words(filters: Filters) -> list[str]:
    words: list[str] = []
    if filters.cors is not None:
        words.append(_cors(filters.cors))
    if filters.authorizer is not None:
        words.append(authorizer_words(filters.authorizer))
    if filters.redirect is not None:
        words.append(_redirect(filters.redirect))
    if filters.direct is not None:
        words.append(f"answer {filters.direct.status} with {len(filters.direct.body)} bytes")
    if filters.request_edit is not None:
        words += [f"request: {it}" for it in _edit(filters.request_edit)]
    if filters.rewrite is not None:
        words += _rewrite(filters.rewrite)
    words += [mirror_words(mirror) for mirror in filters.mirrors]
    if filters.response_edit is not None:
        words += [f"response: {it}" for it in _edit(filters.response_edit)]
    return words


def authorizer_words(authorizer: Authorizer) -> str:
    if authorizer.cluster is None:
        return f"deny: the authorizer {authorizer.name} leads nowhere"
    protocol = "gRPC" if authorizer.is_grpc else "HTTP"
    body = f", with {authorizer.max_body_bytes} bytes of the body" if authorizer.max_body_bytes else ""
    failing = ", and go on if it fails" if authorizer.is_fail_open else ""
    return f"ask {cluster_name(authorizer.cluster)} by {protocol} first{body}{failing}"


def mirror_words(mirror: Mirror) -> str:
    return f"copy {percent(mirror.numerator / mirror.denominator)} to {cluster_name(mirror.cluster)}"


def _edit(edit: HeaderEdit) -> Iterator[str]:
    if edit.authority is not None:
        yield f"set host to {text(edit.authority)}"
    yield from (f"set {text(name)}: {text(value)}" for name, value in edit.set)
    yield from (f"add {text(name)}: {text(value)}" for name, value in edit.add)
    yield from (f"remove {text(name)}" for name in edit.remove)
    for it in edit.formatted:
        yield f"{'add' if it.is_added else 'set'} {text(it.name)}: {it.format.text}"


def _rewrite(rewrite: UrlRewrite) -> Iterator[str]:
    if rewrite.hostname is not None:
        yield f"rewrite the host to {text(rewrite.hostname)}"
    if rewrite.path is not None:
        yield f"rewrite {_path(rewrite.path)}"
    if rewrite.query is not None:
        yield f"put {text(rewrite.query)} before the query"


def _path(edit: AnyPathEdit) -> str:
    if isinstance(edit, TextPrefixEdit):
        return f"the first {edit.length} characters of the path to {text(edit.value)}"
    if isinstance(edit, RegexEdit):
        return f"{text(edit.pattern.value)} in the path to {text(edit.substitution)}"
    if edit.replaces is None:
        return f"the path to {text(edit.value)}"
    return f"the prefix {text(edit.replaces) or '/'} to {text(edit.value) or '/'}"


def _redirect(redirect: Redirect) -> str:
    parts = [f"redirect with {redirect.status}"]
    if redirect.scheme is not None:
        parts.append(f"scheme {text(redirect.scheme)}")
    if redirect.hostname is not None:
        parts.append(f"host {text(redirect.hostname)}")
    if redirect.port is not None:
        parts.append(f"port {redirect.port}")
    if redirect.path is not None:
        parts.append(_path(redirect.path))
    return ", ".join(parts)


def _cors(cors: Cors) -> str:
    origins = ", ".join(text(it.value) for it in cors.origins)
    return f"CORS for pages of {origins or 'nobody'}{', with credentials' if cors.has_credentials else ''}"


def _retry(retry: RetryPolicy) -> str:
    if not retry.attempts:
        return "no retries"
    conditions = ", ".join(sorted(retry.conditions))
    statuses = f" ({', '.join(map(str, sorted(retry.statuses)))})" if retry.statuses else ""
    limit = f", {seconds(retry.per_try_timeout)} for each attempt" if retry.per_try_timeout is not None else ""
    return f"at most {retry.attempts} retries, on {conditions}{statuses}{limit}"


def _fault(fault: Fault) -> Iterator[str]:
    if fault.delay is not None:
        yield f"delay {percent(fault.delay.chance)} by {seconds(fault.delay.seconds)}"
    if fault.abort is not None:
        status = fault.abort.grpc_status
        yield f"abort {percent(fault.abort.chance)} with {fault.abort.status if status is None else f'gRPC {status}'}"


def _plan(plan: FaultPlan) -> Iterator[str]:
    when = _schedule(plan.schedule) if plan.schedule is not None else ""
    for rule in plan.rules:
        whom = _for(rule.conditions)
        yield from (f"{words}{whom}{when} ({plan.name} rules[{rule.name}])" for words in _fault(rule.fault))
    if plan.stop_when is not None:
        stop = plan.stop_when
        bound = f"{percent(stop.share)} of {stop.min_requests} or more requests in {seconds(stop.window_seconds)}"
        yield f"no faults any more once over {bound} fail"


def _schedule(schedule: Schedule) -> str:
    words = f" from {_time(schedule.begins)}" if schedule.begins is not None else ""
    words += f" until {_time(schedule.ends)}" if schedule.ends is not None else ""
    return f"{words} at {schedule.cron} for {seconds(schedule.lasts_seconds)}" if schedule.cron else words


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _for(conditions: tuple[Condition, ...]) -> str:
    return f" for {', '.join(map(condition_words, conditions))}" if conditions else ""


def _limits(limits: RateLimits) -> Iterator[str]:
    for rule in limits.rules:
        limit = rule.limit
        words = (
            f"{'count' if rule.is_shadow else 'limit'} to {limit.requests} a {limit.unit}, {limit.capacity:g} at once"
        )
        words += f", counted by {limits.service.address}" if limits.service is not None else ""
        yield f"{words}{_for(rule.conditions)} ({limits.policy} rules[{rule.name}])"


def condition_words(condition: Condition) -> str:
    """Whom it is for; what is told apart is `each`."""
    match condition:
        case HeaderCondition(name, match, is_inverted):
            return f"header {_wanted(name, match, 'not ' if is_inverted else '')}"
        case QueryCondition(name, match):
            return f"query {_wanted(name, match)}"
        case PathCondition(match):
            return "each path" if match is None else ", ".join(_parts(Match(match)))
        case MethodCondition(methods):
            return f"method {text(b' or '.join(methods))}"
        case SourceCondition(network, is_distinct):
            return f"{'each address of' if is_distinct else 'clients in'} {network}"
        case IdentityCondition(namespaces, accounts, principals, is_distinct):
            whom = ", ".join(" or ".join(its) for its in (namespaces, accounts, principals) if its)
            return f"{'each client' if is_distinct else 'clients'}{f' of {whom}' if whom else ''}"
    return ""


def _wanted(name: bytes, match: StringMatch | None, negation: str = "") -> str:
    return (
        f"{text(name)} {negation}{wanted(FieldMatch(name, match))}"
        if match is not None
        else f"{text(name)}, each value"
    )


def _session(session: SessionPersistence) -> str:
    return f"sessions by {'cookie' if session.is_cookie else 'header'} {text(session.name)}"


# -- tokens --------------------------------------------------------------------------------------------------------


def token_words(authentication: Authentication) -> Iterator[str]:
    """One line for each issuer."""
    for rule in authentication.rules:
        places = ", ".join(map(_place, rule.locations))
        who = f"tokens of {rule.issuer}" if rule.issuer else "tokens of an issuer that can't be told"
        match rule.keys:
            case RemoteKeys(uri=uri):
                keys = f"with the keys at {uri}"
            case InlineKeys():
                keys = "with the keys of the policy"
            case None:
                yield f"{who}, in {places}, are all refused: see the problems of the policy"
                continue
        audiences = f", for {' or '.join(rule.audiences)}" if rule.audiences else ""
        yield f"{who}, in {places}{audiences}, are checked {keys}; without a token a request passes"


def _place(location: Location) -> str:
    match location:
        case HeaderLocation():
            prefix = f" behind {text(location.prefix)!r}" if location.prefix else ""
            return f"header {text(location.name)}{prefix}"
        case ParamLocation():
            return f"parameter {text(location.name)}"
        case CookieLocation():
            return f"cookie {text(location.name)}"
