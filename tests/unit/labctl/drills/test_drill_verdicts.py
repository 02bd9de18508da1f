"""Each checker and bound, fed a history that is wrong in its own way, says so."""

from __future__ import annotations

import msgspec
import pytest

from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.checkers import check_all
from labctl.drills.contract import RECONNECT_S, TOLERANCE_S, cut_off, out_of_reach, request_s, silent_node
from labctl.drills.findings import Case, Result
from labctl.drills.history import History
from labctl.drills.judge import judge
from labctl.drills.measures import measure
from labctl.drills.model import Report, Verdict
from labctl.drills.records import (
    Counted,
    Entry,
    HealBegan,
    HealEnded,
    Inspected,
    Interrupted,
    NodeSeen,
    Probed,
    ReadBack,
    Replayed,
    Said,
    Sampled,
    StreamLost,
    Wrote,
)
from labctl.kube.timing import FAST, KUBERNETES
from tests.unit.labctl.drills.drill_tales import SCENE, UNREACHABLE, ZERO, Tale, container, inspected, pod, slices

TAINT = f"{UNREACHABLE}:NoExecute"


def verdict(tale: Tale) -> Report:
    return judge(tale.tell(), DRILL, FAST)


def failed(report: Report) -> set[str]:
    """What failed: bounds by measure, invariants by letter."""
    return {one.measure for one in report.contract if one.result == "fail"} | {
        letter for letter, finding in report.invariants.items() if finding.result is Result.FAIL
    }


def test_a_drill_that_goes_by_the_contract_passes() -> None:
    report = verdict(Tale())
    assert report.verdict is Verdict.PASS, report.reasons
    assert report.exit_code == 0
    assert report.invariants["B"].result is Result.NOT_APPLICABLE
    assert {letter for letter, one in report.invariants.items() if one.result is Result.PASS} == set("ACDEF")


def test_measures_count_from_the_power_cut() -> None:
    found = verdict(Tale()).measures
    assert (found.detected_s, found.tainted_s, found.endpoint_removed_s) == (4.2, 4.25, 4.3)
    assert (found.evicted_s, found.rescheduled_s, found.serving_again_s) == (5.3, 6.8, 6.9)
    assert found.silent_s == pytest.approx(4.6)
    assert found.error_window_s == pytest.approx(4.4, abs=0.15)
    assert found.requests_failed > 10


def test_a_node_given_up_before_its_grace_breaks_the_contract() -> None:
    report = verdict(Tale(detected=2.5, tainted=2.6, endpoint_removed=2.6, evicted=3.7))
    assert report.verdict is Verdict.VIOLATED
    assert {"detected_s", "silent_s"} <= failed(report)


def test_a_late_lease_excuses_no_haste() -> None:
    # The cut was long after the last renewal: 3.7 s after the cut is 4.6 s of silence, which is fair.
    assert "silent_s" not in failed(verdict(Tale(last_lease=-0.9, detected=3.7)))
    # The same 3.7 s with a renewal just before the cut is too soon, though within the range from the cut alone.
    assert failed(verdict(Tale(last_lease=-0.1, detected=3.6))) == {"silent_s"}


def test_a_node_noticed_too_late_breaks_the_contract() -> None:
    late = Tale(
        detected=9.0,
        tainted=9.1,
        endpoint_removed=9.1,
        evicted=10.2,
        rescheduled=11.0,
        serving=11.1,
        heal=16,
        healed=17,
        ready_again=18,
        end=23,
    )
    assert "detected_s" in failed(verdict(late))


def test_a_slow_power_switch_is_no_violation_but_counts_in_the_figures() -> None:
    report = verdict(
        Tale(
            cut_took=2.0,
            last_lease=1.4,
            detected=6.2,
            tainted=6.3,
            endpoint_removed=6.3,
            evicted=7.4,
            rescheduled=8.0,
            serving=8.1,
        )
    )
    assert report.verdict is Verdict.PASS, report.reasons
    assert report.measures.detected_s == 6.2


def test_pods_evicted_before_their_toleration_is_over_break_the_contract() -> None:
    assert failed(verdict(Tale(tainted=4.25, evicted=4.6))) == {"toleration_kept_s"}


def test_pods_evicted_before_the_taint_break_the_contract() -> None:
    assert "toleration_kept_s" in failed(verdict(Tale(evicted=4.1, detected=4.0, tainted=6.0)))


def test_a_pod_that_tolerates_for_ever_may_not_be_evicted() -> None:
    tale = Tale()
    forever = msgspec.structs.replace(
        pod("web-a", "worker1", event="ADDED", rv="1000", ready=True), tolerates_s={UNREACHABLE: None}
    )
    history = tale.tell()
    entries = [
        msgspec.structs.replace(entry, what=msgspec.structs.replace(entry.what, tolerates_s=forever.tolerates_s))
        if getattr(entry.what, "name", "") == "web-a"
        else entry
        for entry in history
    ]
    report = judge(History(entries), DRILL, FAST)
    assert "toleration_kept_s" in failed(report)


def test_an_endpoint_of_the_dead_node_that_stays_breaks_the_contract() -> None:
    report = verdict(Tale(endpoint_removed=9.0, last_failure=9.0, serving=9.1, heal=14, healed=15, ready_again=16))
    assert {"endpoint_removed_s", "C"} <= failed(report)


def test_an_endpoint_that_is_never_removed_is_never_serving_again() -> None:
    report = verdict(Tale(endpoint_removed=30.0, serving=30.0))
    assert report.verdict is Verdict.VIOLATED
    assert report.measures.serving_again_s is None
    assert {"endpoint_removed_s", "serving_again_s"} <= failed(report)


def test_serving_again_lies_after_the_last_failed_request() -> None:
    late = Probed(number=9_999, intended_s=ZERO + 8.0, latency_s=1.0, via="10.0.0.21", ok=False, error="timeout")
    report = verdict(Tale(more=[(9.0, late)]))
    assert report.measures.serving_again_s == pytest.approx(9.0)
    assert report.measures.error_window_s == pytest.approx(9.0)
    assert "C" in failed(report)


def test_requests_that_fail_after_the_heal_are_not_forgiven() -> None:
    late = Probed(number=9_999, intended_s=ZERO + 15.2, latency_s=0.1, via="10.0.0.21", ok=False, error="ECONNREFUSED")
    report = verdict(Tale(more=[(15.3, late)]))
    assert report.measures.serving_again_s == pytest.approx(15.3)
    assert {"C", "serving_again_s"} <= failed(report)


def test_requests_that_failed_while_the_lab_became_steady_do_not_count() -> None:
    early = Probed(number=9_999, intended_s=ZERO - 30.0, latency_s=0.1, via="10.0.0.21", ok=False, error="ECONNREFUSED")
    report = verdict(Tale(more=[(-29.9, early)]))
    assert report.verdict is Verdict.PASS
    assert report.measures == verdict(Tale()).measures


def test_no_request_at_all_is_no_evidence() -> None:
    report = verdict(Tale(without=(Probed,)))
    assert report.invariants["C"].result is Result.UNKNOWN
    assert report.verdict is not Verdict.PASS


def test_requests_that_stop_before_the_heal_are_no_evidence() -> None:
    tale = Tale()
    cut = History([entry for entry in tale.tell() if not isinstance(entry.what, Probed) or entry.t_s < ZERO + 9])
    assert judge(cut, DRILL, FAST).invariants["C"].result is Result.UNKNOWN


def test_a_lost_acknowledged_write_is_found() -> None:
    report = verdict(Tale(read=("n000000", "n000002")))
    assert failed(report) == {"A"}
    assert "n000001" in report.invariants["A"].evidence


def test_a_write_without_an_answer_may_be_there_or_not() -> None:
    doubtful = [(2.0, Wrote(key="n000009", acknowledged=False, error="timeout"))]
    assert verdict(Tale(more=list(doubtful))).invariants["A"].result is Result.PASS


def test_records_that_were_not_read_back_prove_nothing() -> None:
    assert verdict(Tale(without=(ReadBack,))).verdict is Verdict.UNKNOWN


def test_two_live_containers_of_one_stateful_identity_are_found() -> None:
    owned = pod("db-0", "worker1", event="ADDED", rv="", ready=True, owner="StatefulSet/db")
    twice = Sampled(
        machines=(
            Counted(node="worker1", containers=(container("db-0", id="old"),)),
            Counted(node="worker2", containers=(container("db-0", id="new"),)),
        )
    )
    report = verdict(Tale(more=[(-7.0, msgspec.structs.replace(owned, labels={})), (8.0, twice)]))
    assert report.invariants["B"].result is Result.FAIL
    assert "db-0" in report.invariants["B"].evidence


def test_a_stateful_identity_that_moves_without_overlap_is_fine() -> None:
    owned = msgspec.structs.replace(
        pod("db-0", "worker1", event="ADDED", rv="", ready=True, owner="StatefulSet/db"), labels={}
    )
    here = Sampled(machines=(Counted(node="worker1", containers=(container("db-0", id="old"),)),))
    there = Sampled(machines=(Counted(node="worker2", containers=(container("db-0", id="new"),)),))
    report = verdict(Tale(more=[(-7.0, owned), (-2.0, here), (8.0, there), (9.0, there)]))
    assert report.invariants["B"].result is Result.PASS


def test_interleaved_lives_of_one_identity_overlap() -> None:
    owned = msgspec.structs.replace(
        pod("db-0", "worker1", event="ADDED", rv="", ready=True, owner="StatefulSet/db"), labels={}
    )
    here = Sampled(machines=(Counted(node="worker1", containers=(container("db-0", id="old"),)),))
    there = Sampled(machines=(Counted(node="worker2", containers=(container("db-0", id="new"),)),))
    report = verdict(Tale(more=[(-7.0, owned), (7.0, here), (8.0, there), (9.0, here)]))
    assert report.invariants["B"].result is Result.FAIL


def test_a_condemned_pod_that_runs_after_the_heal_is_found() -> None:
    zombie = Sampled(machines=(Counted(node="worker1", containers=(container("web-a"),)), Counted(node="worker2")))
    report = verdict(Tale(more=[(14.0, zombie), (15.5, zombie)]))
    assert report.invariants["D"].result is Result.FAIL
    assert "1.5 s" in report.invariants["D"].evidence


def test_a_machine_that_cannot_be_asked_after_the_heal_leaves_the_overlap_unknown() -> None:
    tale = Tale(without=(Sampled, Inspected))
    deaf = msgspec.structs.replace(
        inspected("healed", "worker2", "worker2", "worker2"),
        machines=(Counted(node="worker1", error="no route to host"), Counted(node="worker2")),
    )
    history = History([*tale.tell(), Entry(ZERO + 17.5, "2026-01-31T08:00:00.000000Z", deaf)])
    assert judge(history, DRILL, FAST).invariants["D"].result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machines": (Counted(node="worker1", containers=(container("ghost"),)),)}, "orphan container"),
        ({"machines": (Counted(node="worker1", containers=(container("ghost", running=False),)),)}, "(dead)"),
        ({"machines": (Counted(node="worker2", rule_addresses=("10.244.1.77",)),)}, "packet rule"),
        (
            {"machines": (Counted(node="worker2", containers=(container("web-c"), container("web-c", id="two"))),)},
            "runs 2 times",
        ),
        ({"nodes": (NodeSeen(event="NOW", rv="1", name="worker1", ready="Unknown"),)}, "not Ready"),
        (
            {"nodes": (NodeSeen(event="NOW", rv="1", name="worker1", ready="True", taints=(TAINT,)),)},
            "tainted",
        ),
        ({"pods": (pod("web-a", "worker1", deleting=True),), "slices": ()}, "still terminating"),
        ({"pods": ()}, "no ready pod has it"),
    ],
)  # fmt: skip
def test_what_is_left_over_after_the_heal_is_found(change: dict[str, object], words: str) -> None:
    left = msgspec.structs.replace(inspected("healed", "worker2", "worker2", "worker2"), **change)
    finding = verdict(Tale(more=[(19.0, left)])).invariants["E"]
    assert finding.result is Result.FAIL
    assert words in finding.evidence


def test_what_was_wrong_before_the_drill_is_not_held_against_it() -> None:
    ghost = (Counted(node="worker1", containers=(container("ghost"),)),)
    before = msgspec.structs.replace(inspected("steady", "worker1", "worker1", "worker2"), machines=ghost)
    after = msgspec.structs.replace(inspected("healed", "worker2", "worker2", "worker2"), machines=ghost)
    assert verdict(Tale(more=[(-0.5, before), (19.0, after)])).invariants["E"].result is Result.PASS


def _with_replay(tale: Tale, stream: str, events: tuple[str, ...]) -> Report:
    entries = [
        msgspec.structs.replace(entry, what=msgspec.structs.replace(entry.what, events=events))
        if isinstance(entry.what, Replayed) and entry.what.stream == stream
        else entry
        for entry in tale.tell()
    ]
    return judge(History(entries), DRILL, FAST)


def test_an_event_that_never_came_is_a_gap() -> None:
    told = next(r for _, r in Tale().tell().of(Replayed) if r.stream == "nodes").events
    report = _with_replay(Tale(), "nodes", (*told, "2000 MODIFIED worker2"))
    assert failed(report) == {"F"}
    assert "never received 2000 MODIFIED worker2" in report.invariants["F"].evidence


def test_an_event_that_the_server_does_not_know_is_a_gap() -> None:
    told = next(r for _, r in Tale().tell().of(Replayed) if r.stream == "pods").events
    assert failed(_with_replay(Tale(), "pods", told[1:])) == {"F"}


def test_an_event_of_an_object_never_added_is_a_gap() -> None:
    stray = NodeSeen(event="MODIFIED", rv="", name="worker9", ready="True")
    assert "never added" in verdict(Tale(more=[(19.0, stray)])).invariants["F"].evidence


def test_events_out_of_order_are_found() -> None:
    stale = NodeSeen(event="MODIFIED", rv="901", name="worker2", ready="True")
    assert "came after" in verdict(Tale(more=[(19.0, stale)])).invariants["F"].evidence


def test_a_watch_that_lost_its_place_is_no_proof_of_wholeness() -> None:
    report = verdict(Tale(more=[(9.0, StreamLost(stream="pods", why="too old resource version"))]))
    assert report.verdict is Verdict.UNKNOWN
    assert report.invariants["F"].result is Result.UNKNOWN


def test_without_the_servers_own_account_nothing_is_known_of_gaps() -> None:
    entries = [entry for entry in Tale().tell() if not isinstance(entry.what, Replayed)]
    assert judge(History(entries), DRILL, FAST).invariants["F"].result is Result.UNKNOWN


def test_a_fault_that_did_not_take_is_its_own_verdict() -> None:
    report = verdict(Tale(took=False))
    assert report.verdict is Verdict.NOT_INJECTED
    assert "still answers" in report.reasons[0]


def test_a_missing_heal_is_never_a_pass() -> None:
    assert verdict(Tale(without=(HealBegan, HealEnded))).verdict is Verdict.NOT_HEALED


def test_a_failed_heal_says_so() -> None:
    report = verdict(Tale(heal_ok=False))
    assert report.verdict is Verdict.NOT_HEALED
    assert "no such machine" in report.reasons[0]


def test_a_lab_that_does_not_come_back_is_not_healed() -> None:
    gave_up = Said(text="the lab did not converge: node worker1 is not Ready (Unknown)")
    left = msgspec.structs.replace(
        inspected("healed", "worker2", "worker2", "worker2"),
        nodes=(NodeSeen(event="NOW", rv="1", name="worker1", ready="Unknown"),),
    )
    report = verdict(Tale(converged=False, more=[(19.0, gave_up), (19.1, left)]))
    assert report.verdict is Verdict.NOT_HEALED
    assert any("worker1" in reason for reason in report.reasons)


def test_an_interrupted_drill_is_unknown_not_violated() -> None:
    stopped = Tale(more=[(3.0, Interrupted(why="Ctrl-C"))], heal=3.1, healed=5.0)
    report = verdict(stopped)
    assert report.verdict is Verdict.UNKNOWN
    assert report.reasons[0] == "interrupted: Ctrl-C"


def test_trouble_with_the_record_is_never_a_pass() -> None:
    report = judge(Tale().tell(), DRILL, FAST, trouble="the record could not be written: No space left on device")
    assert report.verdict is Verdict.UNKNOWN


def test_a_checker_that_crashes_has_found_nothing() -> None:
    def broken(_case: Case) -> tuple[Result, str]:
        raise ZeroDivisionError("division by zero")

    history = Tale().tell()
    case = Case(history, SCENE, measure(history, SCENE), {})
    finding = check_all(case, {"A": ("broken", broken)})["A"]
    assert finding.result is Result.UNKNOWN
    assert "ZeroDivisionError" in finding.evidence


def test_the_kubernetes_profile_expects_upstreams_own_figures() -> None:
    bounds = {bound.measure: bound for bound in silent_node(KUBERNETES, SCENE)}
    detected = bounds["detected_s"]
    # CONTRACT section 1: a power cut shows as Unknown after 40 to 60 s, pods are deleted after 345 to 365 s.
    assert detected.lower_s == pytest.approx(40, abs=0.5)
    assert detected.upper_s == pytest.approx(60, abs=1.0)
    assert bounds["evicted_s"].upper_s == pytest.approx(365, abs=1.0)


def test_under_the_fast_profile_every_bound_is_single_digit_up_to_the_eviction() -> None:
    bounds = {bound.measure: bound for bound in silent_node(FAST, SCENE)}
    assert bounds["detected_s"].upper_s == pytest.approx(5.5)
    assert bounds["evicted_s"].upper_s is not None
    assert bounds["evicted_s"].upper_s < 10


def test_slowness_stretches_allowances_and_never_timers() -> None:
    slow = msgspec.structs.replace(SCENE, slowness=3.0)
    fast, emulated = (
        {bound.measure: bound for bound in silent_node(FAST, scene)} for scene in (SCENE, slow)
    )  # fmt: skip
    assert emulated["detected_s"].lower_s == fast["detected_s"].lower_s
    assert emulated["detected_s"].upper_s == (fast["detected_s"].upper_s or 0) + 2.0
    window_s = [(bounds["error_window_s"].upper_s or 0) for bounds in (fast, emulated)]
    assert window_s[1] == window_s[0] + 2.0 + 2 * request_s(SCENE)  # a request may take three times as long, too


def test_the_error_window_is_wide_only_where_every_replica_died() -> None:
    everyone = msgspec.structs.replace(SCENE, on_victims=3)
    some = {bound.measure: bound.upper_s or 0 for bound in silent_node(FAST, SCENE)}
    all_of_them = {bound.measure: bound.upper_s or 0 for bound in silent_node(FAST, everyone)}
    assert some["error_window_s"] < 7 < all_of_them["error_window_s"]


def test_a_replica_that_dies_again_before_the_heal_unmakes_serving_again() -> None:
    tale = Tale(serving=6.9)
    fewer = slices("", "MODIFIED", ("web-c", "worker2"))
    whole = slices("", "MODIFIED", ("web-c", "worker2"), ("web-d", "worker2"), ("web-e", "worker2"))
    tale.more = [(8.0, fewer), (9.0, whole)]
    assert verdict(tale).measures.serving_again_s == pytest.approx(9.0)


def test_a_node_out_of_reach_takes_the_service_along_where_every_replica_is_on_it() -> None:
    def window_s(on_victims: int) -> float:
        bounds = out_of_reach(FAST, msgspec.structs.replace(SCENE, on_victims=on_victims))
        return next(bound.upper_s or 0.0 for bound in bounds if bound.measure == "error_window_s")

    assert window_s(SCENE.replicas - 1) == 1.0 + TOLERANCE_S  # one request's own timeout, and until it is seen
    assert window_s(SCENE.replicas) > 1.0 + FAST.toleration_s


def test_a_proxy_that_was_cut_off_may_send_requests_to_condemned_pods_until_it_has_heard_of_it() -> None:
    reached = {bound.measure: bound for bound in out_of_reach(FAST, SCENE)}
    cut = {bound.measure: bound for bound in cut_off(FAST, SCENE)}
    assert reached.keys() == cut.keys()
    wider = {name for name in reached if reached[name].upper_s != cut[name].upper_s}
    assert wider == {"error_window_s"}
    assert (cut["error_window_s"].upper_s or 0) > (reached["error_window_s"].upper_s or 0) + RECONNECT_S
