from policies.circuit import Circuit, CircuitLimits


def test_requests_are_let_in_up_to_the_limit_and_again_when_one_has_ended() -> None:
    circuit = Circuit(CircuitLimits(max_requests=2))

    assert [circuit.take_request() for _ in range(3)] == [True, True, False]
    circuit.end_request()
    assert circuit.take_request()


def test_those_that_wait_have_a_limit_of_their_own() -> None:
    circuit = Circuit(CircuitLimits(max_pending_requests=1))

    assert [circuit.take_pending(), circuit.take_pending()] == [True, False]
    assert circuit.take_request()


def test_without_limits_nothing_is_refused() -> None:
    circuit = Circuit()

    assert all(circuit.take_request() and circuit.take_pending() for _ in range(10_000))
    circuit.connections = 10_000
    assert circuit.may_connect(own=5)


def test_an_endpoint_without_a_connection_gets_its_first_beyond_the_limit() -> None:
    circuit = Circuit(CircuitLimits(max_connections=3))
    circuit.connections = 3

    assert circuit.may_connect(own=0)
    assert not circuit.may_connect(own=1)


def test_it_is_full_exactly_while_it_lets_no_request_in() -> None:
    circuit = Circuit(CircuitLimits(max_requests=1))

    assert not circuit.is_full
    circuit.take_request()
    assert circuit.is_full
    circuit.limits = CircuitLimits(max_requests=2)
    assert not circuit.is_full
