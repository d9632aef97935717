from bench.workers import Cost, Costs, summary


def test_two_cpus_carry_by_what_a_request_costs_in_each_round() -> None:
    costs = [
        Costs(Cost(40, 40), Cost(50, 1), Cost(40, 40)),
        Costs(Cost(40, 40), Cost(40, 0), Cost(40, 40)),
        Costs(Cost(42, 42), Cost(44, 0.5), Cost(42, 42)),
    ]

    assert summary(costs) == {
        "one process": {"cpu_us": 40},
        "two workers": {"cpu_us": 44, "supervisor_us": 0.5, "capacity": 1.91, "least": 1.6, "most": 2.0},
        "two waypoints": {"cpu_us": 40, "capacity": 2.0, "least": 2.0, "most": 2.0},
        "two workers against two waypoints": {"capacity": 0.95, "least": 0.8, "most": 1.0},
    }
