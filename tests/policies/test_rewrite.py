from policies.attributes import RequestHead
from policies.rewrite import HeaderEdit


def test_set_replaces_all_values_of_a_name() -> None:
    edit = HeaderEdit(set=((b"env", b"test"),))

    assert edit.apply([(b"env", b"a"), (b"x", b"1"), (b"env", b"b")]) == [(b"x", b"1"), (b"env", b"test")]


def test_add_leaves_the_values_that_are_there() -> None:
    edit = HeaderEdit(add=((b"env", b"test"),))

    assert edit.apply([(b"env", b"prod")]) == [(b"env", b"prod"), (b"env", b"test")]


def test_remove_deletes_all_values_and_minds_no_missing_ones() -> None:
    edit = HeaderEdit(remove=(b"env", b"missing"))

    assert edit.apply([(b"env", b"a"), (b"x", b"1"), (b"env", b"b")]) == [(b"x", b"1")]


def test_remove_comes_last() -> None:
    edit = HeaderEdit(set=((b"a", b"1"),), add=((b"b", b"2"),), remove=(b"a", b"b"))

    assert edit.apply([(b"c", b"3")]) == [(b"c", b"3")]


def test_the_headers_given_are_left_as_they_were() -> None:
    headers = [(b"env", b"prod")]

    edited = HeaderEdit().apply(headers)

    assert edited == headers
    assert edited is not headers


def test_setting_host_changes_the_authority_of_a_request() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/", b"", [(b"x", b"1")])

    HeaderEdit(set=((b"env", b"test"),), authority=b"reviews.example.com").apply_to(head)

    assert head.authority == b"reviews.example.com"
    assert head.headers == [(b"x", b"1"), (b"env", b"test")]


def test_an_edit_without_host_keeps_the_authority() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/", b"", [])

    HeaderEdit(remove=(b"x",)).apply_to(head)

    assert head.authority == b"reviews:9080"
