"""What the binder writes for a decision, and what it tells of writes that fail."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import ApiError, Conflict, Document, NotFound, Unavailable
from labctl.kube.events import Recorder
from labctl.runtime.clock import SystemClock
from master.scheduler.binder import Binder
from master.scheduler.cycle import Placed, Unschedulable
from master.scheduler.snapshot import PodInfo
from tests.unit.master.scheduler.cluster import info, pod


class Api:
    """Notes every write; raises what `fails` says for one of its verbs."""

    def __init__(self, **fails: ApiError) -> None:
        self.writes: list[tuple[str, str, Any]] = []
        self._fails = fails

    def _note(self, verb: str, name: str, body: Any) -> Document:
        if verb in self._fails:
            raise self._fails[verb]
        self.writes.append((verb, name, body))
        return {}

    def post(self, _resource: Any, name: str, _subresource: str, body: Any, _namespace: str = "") -> Document:
        return self._note("post", name, body["target"]["name"])

    def patch(self, _resource: Any, name: str, body: Any, _namespace: str = "", **_: Any) -> Document:
        return self._note("patch", name, body.get("status"))

    def delete(self, _resource: Any, name: str, _namespace: str = "", *, uid: str = "") -> Document:
        return self._note("delete", name, uid)

    def create(self, _resource: Any, body: Any, _namespace: str = "") -> Document:
        return self._note("event", body["involvedObject"].name, (body["reason"], body["message"]))


def carried_out(decision: Placed | Unschedulable, **fails: ApiError) -> tuple[Api, list[tuple[str, bool]]]:
    """What was written, and what was said to have failed."""
    api, failed = Api(**fails), []

    def on_failed(item: PodInfo, uncertain: bool) -> None:
        failed.append((item.meta.name, uncertain))

    recorder = Recorder(api, "default-scheduler", clock=SystemClock())  # type: ignore[arg-type]
    binder = Binder(api, recorder, SystemClock(), on_failed)  # type: ignore[arg-type]
    binder.try_to(decision)
    recorder.flush()
    return api, failed


def test_a_placed_pod_is_bound_and_its_event_says_where() -> None:
    api, failed = carried_out(Placed(info(pod("p")), "n"))
    assert api.writes == [
        ("post", "p", "n"),
        ("event", "p", ("Scheduled", "Successfully assigned default/p to n")),
    ]
    assert failed == []


@pytest.mark.parametrize(
    ("error", "uncertain"), [(Conflict("taken"), False), (NotFound("gone"), False), (Unavailable("no answer"), True)]
)
def test_a_binding_that_fails_is_reported_with_whether_it_may_have_happened(error: ApiError, uncertain: bool) -> None:
    _, failed = carried_out(Placed(info(pod("p")), "n"), post=error)
    assert failed == [("p", uncertain)]


def refused(message: str = "0/1 nodes are available.", *, status: Any = None, **more: Any) -> Unschedulable:
    return Unschedulable(info(pod("p", status=status or {})), message, **more)


def test_a_pod_that_fits_nowhere_is_told_once() -> None:
    api, _ = carried_out(refused())
    (verb, name, status), (_, _, event) = api.writes
    assert (verb, name, list(status)) == ("patch", "p", ["conditions"])
    assert status["conditions"][0]["message"] == event[1] == "0/1 nodes are available."
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available."}
    api, _ = carried_out(refused(status={"conditions": [told]}))
    assert [verb for verb, _, _ in api.writes] == ["event"]


def test_victims_are_marked_then_deleted_and_the_node_is_nominated() -> None:
    victim, leaving = info(pod("v")), info(pod("w", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    lower = info(pod("q", status={"nominatedNodeName": "n"}))
    api, failed = carried_out(refused(nominated="n", victims=(victim, leaving), displaced=(lower,)))
    steps = [(verb, name) for verb, name, _ in api.writes if verb != "event"]
    assert steps == [("patch", "v"), ("delete", "v"), ("patch", "q"), ("patch", "p")]
    marked, deleted, cleared, told = [body for verb, _, body in api.writes if verb != "event"]
    assert marked["conditions"][0]["reason"] == "PreemptionByScheduler"
    assert (deleted, cleared) == ("uid-v", {"nominatedNodeName": None})
    assert told["nominatedNodeName"] == "n"
    assert ("event", "v", ("Preempted", "Preempted by pod uid-p on node n")) in api.writes
    assert failed == []


def test_a_victim_that_is_gone_already_stops_nothing() -> None:
    api, failed = carried_out(refused(nominated="n", victims=(info(pod("v")),)), delete=NotFound("gone"))
    assert [verb for verb, name, _ in api.writes if name == "p"] == ["patch", "event"]
    assert failed == []


def test_room_that_could_not_be_made_is_asked_for_again() -> None:
    _, failed = carried_out(refused(nominated="n", victims=(info(pod("v")),)), delete=Unavailable("no answer"))
    assert failed == [("p", True)]


def test_a_nomination_that_led_nowhere_is_taken_back() -> None:
    api, _ = carried_out(refused(status={"nominatedNodeName": "n"}))
    assert api.writes[0][2]["nominatedNodeName"] is None
