import json

from bench.report import Outcome, about, table

MACHINE = {
    "ours": "plain source",
    "cores": 2,
    "cpu": "A",
    "kernel": "6",
    "python": "3.11.7",
    "python is configured with --enable-optimizations": False,
    "openssl": "OpenSSL 3.5",
    "envoy": "1.40.0",
    "load average": [0.1, 0.2, 0.3],
}


def outcome() -> Outcome:
    made = Outcome(MACHINE, {"pairs": 2})
    made.pairs["HTTP/1.1"] = [
        {"ours": {"CPU µs/request": 20.0, "requests/s": 20000.0}, "peer": {"CPU µs/request": 40.0, "requests/s": 1e4}},
        {"ours": {"CPU µs/request": 30.0, "requests/s": 20000.0}, "peer": {"CPU µs/request": 40.0, "requests/s": 1e4}},
    ]
    made.pairs["memory"] = [{"ours": {"MiB": 1.0}, "peer": {"MiB": 0.0}}]
    made.void.append("grpc, pair 1: 3 failed")
    return made


def test_the_table_has_a_row_for_each_figure_and_names_a_scenario_once() -> None:
    assert table(outcome()) == (
        "| scenario | figure         |   ours |  Envoy | ratio |   min–max | pairs |\n"
        "|----------|----------------|-------:|-------:|------:|----------:|------:|\n"
        "| HTTP/1.1 | CPU µs/request |     25 |     40 |  0.62 | 0.50–0.75 |     2 |\n"
        "|          | requests/s     | 20,000 | 10,000 |  2.00 | 2.00–2.00 |     2 |\n"
        "| memory   | MiB            |      1 |      0 |     – |         – |     1 |\n"
    )


def test_the_json_has_machine_options_pairs_summary_and_what_does_not_count() -> None:
    found = json.loads(json.dumps(outcome().as_json()))

    assert found["machine"]["cpu"] == "A"
    assert found["options"] == {"pairs": 2}
    assert found["summary"]["HTTP/1.1"]["CPU µs/request"] == {
        "ours": 25,
        "peer": 40,
        "ratio": 0.625,
        "least": 0.5,
        "most": 0.75,
    }
    assert len(found["pairs"]["HTTP/1.1"]) == 2
    assert found["void"] == ["grpc, pair 1: 3 failed"]


def test_a_table_can_say_what_it_was_measured_on() -> None:
    assert about(MACHINE) == (
        "plain source; 2 cores of A, kernel 6; Python 3.11.7 configured without --enable-optimizations, "
        "OpenSSL 3.5; Envoy 1.40.0; load average before the run [0.1, 0.2, 0.3]"
    )
