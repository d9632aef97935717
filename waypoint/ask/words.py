"""Describe routes in short phrases, one line each, in the API's terms."""

from collections.abc import Iterator

from policies.filters import Filters
from policies.jwt import Authentication, InlineKeys, RemoteKeys
from policies.retry import RetryPolicy
from policies.rewrite import AnyPathEdit, HeaderEdit, Redirect, RegexEdit, TextPrefixEdit, UrlRewrite
from policies.route import FieldMatch, Match, Rule, SourceMatch
from policies.token_locations import CookieLocation, HeaderLocation, Location, ParamLocation
from waypoint.config.words import path_words, seconds, text, wanted
from waypoint.filters.live import ASKING


def rule_name(rule: Rule) -> str:
    """Return the rule's object, and the rule's name if it has one."""
    source = rule.source
    if source is None:
        return f"{rule.name} route"
    is_named = rule.name != f"{source.namespace}.{source.name}.{source.index}"
    return f"{source} ({rule.name})" if is_named else str(source)


# -- matches -------------------------------------------------------------------------------------------------------


def match_words(match: Match) -> str:
    """Describe a match: `path prefix /v2, method GET, header end-user = jason`."""
    return ", ".join(_parts(match))


def _parts(match: Match) -> Iterator[str]:
    yield path_words(match.path)
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
    return f"{text(field.name)} {wanted(field.match)}"


# -- what is done --------------------------------------------------------------------------------------------------


def rule_words(rule: Rule) -> list[str]:
    """Describe what a rule does in addition to selecting a backend."""
    words = filter_words(rule.filters)
    if rule.timeouts.request is not None:
        words.append(f"timeout {seconds(rule.timeouts.request)} for the whole exchange")
    if rule.retry is not None:
        words.append(_retry(rule.retry))
    return words


def filter_words(filters: Filters) -> list[str]:
    """In the order in which it is done."""
    words = list(_policies(filters, are_after_edits=False))
    if filters.redirect is not None:
        words.append(_redirect(filters.redirect))
    if filters.direct is not None:
        words.append(f"answer {filters.direct.status} with {len(filters.direct.body)} bytes")
    if filters.request_edit is not None:
        words += [f"request: {it}" for it in _edit(filters.request_edit)]
    if filters.rewrite is not None:
        words += _rewrite(filters.rewrite)
    words += _policies(filters, are_after_edits=True)
    if filters.response_edit is not None:
        words += [f"response: {it}" for it in _edit(filters.response_edit)]
    return words


def _policies(filters: Filters, *, are_after_edits: bool) -> Iterator[str]:
    for policy in filters.policies:
        it = ASKING.of(policy)
        if it.is_after_edits == are_after_edits:
            yield from it.words(policy)


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


def _retry(retry: RetryPolicy) -> str:
    if not retry.attempts:
        return "no retries"
    conditions = ", ".join(sorted(retry.conditions))
    statuses = f" ({', '.join(map(str, sorted(retry.statuses)))})" if retry.statuses else ""
    limit = f", {seconds(retry.per_try_timeout)} for each attempt" if retry.per_try_timeout is not None else ""
    return f"at most {retry.attempts} retries, on {conditions}{statuses}{limit}"


# -- tokens --------------------------------------------------------------------------------------------------------


def token_words(authentication: Authentication) -> Iterator[str]:
    """Yield one line per issuer."""
    for rule in authentication.rules:
        places = ", ".join(map(_place, rule.locations))
        who = f"tokens of {rule.issuer}" if rule.issuer else "tokens of an unknown issuer"
        match rule.keys:
            case RemoteKeys(uri=uri):
                keys = f"with the keys at {uri}"
            case InlineKeys():
                keys = "with the keys of the policy"
            case None:
                yield f"{who}, in {places}, are all rejected; see the problems of the policy"
                continue
        audiences = f", for {' or '.join(rule.audiences)}" if rule.audiences else ""
        yield f"{who}, in {places}{audiences}, are verified {keys}; a request without a token passes"


def _place(location: Location) -> str:
    match location:
        case HeaderLocation():
            prefix = f" behind {text(location.prefix)!r}" if location.prefix else ""
            return f"header {text(location.name)}{prefix}"
        case ParamLocation():
            return f"parameter {text(location.name)}"
        case CookieLocation():
            return f"cookie {text(location.name)}"
