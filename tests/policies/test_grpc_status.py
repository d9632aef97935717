import grpc

from policies.grpc_status import CODES, HTTP_STATUSES


def test_codes_have_the_names_and_numbers_of_grpc() -> None:
    assert {code.name: code.value[0] for code in grpc.StatusCode} == CODES


def test_every_code_has_an_http_status() -> None:
    assert HTTP_STATUSES.keys() == set(CODES.values())
    assert [code for code, status in HTTP_STATUSES.items() if status < 400] == [CODES["OK"]]
