from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.verdicts import MAX_BOUND_RULES, METRICS, Verdicts, hits_of
from policies.authorization import Action, Named, Policy, Shadow, Verdict
from policies.balancing.endpoint import WorkloadLabels

CLIENT = WorkloadLabels("client-v1", "default", "spiffe://cluster.local/ns/default/sa/client")


class _Service:
    hostname, name, namespace = "app.default.svc.cluster.local", "app", "default"


def _rule(name: str, index: int = 0, action: Action = Action.ALLOW) -> Named:
    return Named(f"ns[default]-policy[{name}]-rule[{index}]", Policy("default", name, action, ()), index)


def _counted(*verdicts: Verdict) -> MeshMetrics:
    metrics = MeshMetrics("ztunnel", "test", METRICS)
    counting = Verdicts(metrics)
    for it in verdicts:
        counting.count(it, CLIENT, _Service())
    return metrics


def test_each_verdict_counts_for_the_policy_that_decided() -> None:
    let_in, trial = _rule("let-in", 1), _rule("trial", action=Action.DENY)
    metrics = _counted(
        Verdict(True),
        Verdict(True, let_in),
        Verdict(True, let_in, (_rule("watch"),)),
        Verdict(True, None, (), (Shadow(Action.DENY, False, trial),)),
        Verdict(False, _rule("keep-out", action=Action.DENY)),
        Verdict(False),
    )

    assert hits_of(metrics) == {
        "default/let-in": {"allowed": 2},
        "default/watch": {"audited": 1},
        "default/keep-out": {"denied": 1},
        "none": {"denied": 1},
        "default/trial": {"would_be_denied": 1},
    }
    text = metrics.render("")[0].decode()
    assert 'pywaypoint_authorization_allowed_total{policy="default/let-in",rule="1"} 2' in text
    between = (
        'source_workload="client-v1",source_workload_namespace="default",'
        'source_principal="spiffe://cluster.local/ns/default/sa/client",'
        'destination_service_name="app",destination_service_namespace="default"'
    )
    assert f'pywaypoint_authorization_denied_total{{policy="default/keep-out",{between}}} 1' in text
    trial_labels = f'authz_dry_run_action="deny",authz_dry_run_result="denied",policy="default/trial",{between}'
    assert f"pywaypoint_authorization_dry_run_total{{{trial_labels}}} 1" in text


def test_hits_of_one_policy_add_up_whoever_was_denied() -> None:
    metrics = MeshMetrics("ztunnel", "test", METRICS)
    counting, rule = Verdicts(metrics), _rule("keep-out", action=Action.DENY)
    for number in range(3):
        counting.count(Verdict(False, rule), WorkloadLabels(f"client-{number}"), _Service())

    assert hits_of(metrics) == {"default/keep-out": {"denied": 3}}


def test_rules_of_earlier_configurations_are_let_go_of_and_none_is_counted_for_another() -> None:
    metrics = MeshMetrics("ztunnel", "test", METRICS)
    counting = Verdicts(metrics)
    for _ in range(2 * MAX_BOUND_RULES):
        counting.count(Verdict(True, _rule("same")), CLIENT, _Service())  # a new object, as after each change

    assert len(counting._allowed) <= MAX_BOUND_RULES
    assert hits_of(metrics) == {"default/same": {"allowed": 2 * MAX_BOUND_RULES}}
