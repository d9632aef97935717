from bench.workers import Cost, summary


def test_two_cpus_carry_by_what_a_request_costs_in_each_pair() -> None:
    costs = [(Cost(40, 40), Cost(50, 1)), (Cost(40, 40), Cost(40, 0)), (Cost(42, 42), Cost(44, 0.5))]

    assert summary(costs) == {
        "one process": {"cpu_us": 40},
        "two workers": {"cpu_us": 44, "supervisor_us": 0.5},
        "two CPUs": {"capacity": 1.91, "least": 1.6, "most": 2.0},
    }
