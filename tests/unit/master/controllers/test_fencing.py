"""An identity on a silent node is released only after proof, and whoever waits is told for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.errors import Conflict, NotFound
from labctl.kube.fencing import ANNOTATION, CONDITION, PROMISE, Mode
from labctl.kube.resources import LEASES, NODES, PODS
from labctl.kube.timing import FAST
from master.controllers.apply import Applier
from master.controllers.catalog.fencing import Memory, plan
from master.controllers.fence_client import FencingFailed
from master.controllers.protocol import NEVER_S, ConfirmUnmoved, Delete, Failure, Patch, Plan, PowerOff, Settings, Tell
from tests.unit.master.controllers import world as build
from tests.unit.master.controllers.world import actions, lease, node, owned_by, pod, statuses

SILENT = ("node.kubernetes.io/unreachable:NoExecute",)
GRACE_S = FAST.node_monitor_grace_s


def db(name: str = "db-0", *, condemned: bool = True, mode: str = "", kind: str = "StatefulSet", **more: Any) -> Any:
    """A StatefulSet's pod on w1."""
    if condemned:
        more |= {"deletionTimestamp": build.ago(1), "deletionGracePeriodSeconds": 30}
    annotations = {ANNOTATION: mode} if mode else {}
    return pod(name, node="w1", phase="Running", ownerReferences=owned_by(kind, "db"), annotations=annotations, **more)


class Scene:
    """One node and its pods, looked at as often as a test likes."""

    def __init__(self, *pods: Any, ready: str = "Unknown", taints: tuple[str, ...] = SILENT, mode: str = "") -> None:
        self.node = node("w1", ready, taints, annotations={ANNOTATION: mode} if mode else {})
        self.lease = lease("w1", "2026-06-01T00:00:00.000000Z")
        self.pods = list(pods)
        self.memory = Memory()
        self.default: Mode = "power"
        self.failures: dict[str, Failure] = {}

    def promise(self, *uids: str) -> Scene:
        self.lease["metadata"]["annotations"] = {PROMISE: ",".join(uids)}
        return self

    def look(self, now_s: float = 1000.0) -> Plan:
        objects = {NODES: [self.node], LEASES: [self.lease], PODS: self.pods}
        seen = build.world(objects, now_s=now_s, settings=Settings(fencing=self.default))
        found = plan(replace(seen, failures=self.failures), self.memory)
        self.memory = found.memory
        return found


def released(found: Plan) -> list[str]:
    return [action.name for action in actions(found, Delete)]


def told(found: Plan) -> set[tuple[str, str]]:
    """Reasons of Events, and the kind of what they are about."""
    pairs = [(step, action) for step in found.steps for action in step.actions if isinstance(action, Tell)]
    return {(action.reason, (action.about or step.about).kind) for step, action in pairs}


# -- power


def test_the_machine_is_confirmed_off_before_anything_is_released() -> None:
    found = Scene(db("db-0"), db("db-1")).look()
    order = [type(action) for action in actions(found) if not isinstance(action, Tell)]
    assert order[0] is Patch  # the node's condition: what is waited for
    assert order[1:3] == [ConfirmUnmoved, PowerOff]
    assert order.index(PowerOff) < order.index(Delete)
    assert released(found) == ["db-0", "db-1"]
    assert all((one.grace_s, one.uid) == (0, f"uid-{one.name}") for one in actions(found, Delete))
    powered = [step for step in found.steps if any(isinstance(action, PowerOff) for action in step.actions)]
    assert len(powered) == 1  # one step: where the machine is not confirmed off, nothing after it happens
    assert {entry.kind for entry in (powered[0].about, *powered[0].failure_also)} == {"Node", "Pod"}


def test_pod_and_node_are_told_once_what_is_waited_for() -> None:
    scene = Scene(db())
    assert {("FencingPending", "Pod"), ("FencingPending", "Node")} <= told(scene.look())
    assert "FencingPending" not in {reason for reason, _ in told(scene.look(1001.0))}


def test_the_nodes_condition_says_what_is_awaited_and_then_what_was_done() -> None:
    found = Scene(db()).look()
    first, last = actions(found, Patch)[0], [one for one in actions(found, Patch) if one.resource == NODES][-1]
    entries = [one.body["status"]["conditions"][0] for one in (first, last)]
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in entries] == [
        (CONDITION, "False", "FencingPending"),
        (CONDITION, "True", "PoweredOff"),
    ]
    assert "default/db-0" in entries[0]["message"]


def test_the_condition_says_why_the_last_try_failed() -> None:
    scene = Scene(db())
    scene.failures = {"uid-w1": Failure("FencingFailed", "nobody answers")}
    assert (
        actions(scene.look(), Patch)[0]
        .body["status"]["conditions"][0]["message"]
        .endswith("(last try: nobody answers)")
    )


def test_what_else_was_condemned_on_a_machine_that_is_off_goes_with_it() -> None:
    assert sorted(released(Scene(db(), db("web", kind="ReplicaSet")).look())) == ["db-0", "web"]


@pytest.mark.parametrize(
    ("why", "scene"),
    [
        ("the node is Ready", Scene(db(), ready="True")),
        ("the node is not Ready, but speaks", Scene(db(), ready="False")),
        ("evictions are frozen", Scene(db(), taints=())),
        ("the pod still tolerates the silence", Scene(db(condemned=False))),
        ("no pod of a StatefulSet is there", Scene(db(kind="ReplicaSet"))),
        ("fencing is none", Scene(db(mode="none"))),
        ("fencing is none on the node", Scene(db(), mode="none")),
        (
            "it waits for a finalizer alone",
            Scene(db() | {"metadata": db()["metadata"] | {"deletionGracePeriodSeconds": 0}}),
        ),
    ],
)
def test_no_machine_is_powered_off_and_nothing_released(why: str, scene: Scene) -> None:
    found = scene.look()
    assert (actions(found, PowerOff), released(found)) == ([], []), why


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (Scene(db(), taints=()), "FencingHeldBack"),
        (Scene(db(mode="none")), "FencingNone"),
        (Scene(db(mode="self")), "FencingNotShown"),
    ],
)
def test_where_nothing_is_released_an_event_says_why(scene: Scene, reason: str) -> None:
    assert {(reason, "Pod"), (reason, "Node")} <= told(scene.look())


def test_an_annotated_pod_of_no_stateful_set_is_fenced_too() -> None:
    assert released(Scene(db(kind="ReplicaSet", mode="power")).look()) == ["db-0"]


def test_the_condition_is_settled_once_the_node_is_back() -> None:
    scene = Scene(ready="True", taints=())
    scene.node["status"]["conditions"].append({"type": CONDITION, "status": "True", "reason": "PoweredOff"})
    entry = statuses(scene.look(), NODES)["w1"]["conditions"][0]
    assert (entry["status"], entry["reason"]) == ("False", "NodeReady")
    scene.node["status"]["conditions"][-1] |= entry
    assert scene.look().steps == ()


# -- self


def test_what_a_node_promised_to_stop_is_released_a_grace_after_its_last_renewal_was_seen() -> None:
    scene = Scene(db(mode="self")).promise("uid-db-0")
    first = scene.look(1000.0)
    assert (released(first), first.wake_after_s <= GRACE_S) == ([], True)
    assert released(scene.look(1000.0 + GRACE_S - 0.01)) == []
    due = scene.look(1000.0 + GRACE_S)
    assert released(due) == ["db-0"]
    assert not actions(due, PowerOff)
    assert next(type(action) for action in due.steps[0].actions) is ConfirmUnmoved


def test_a_renewal_that_is_seen_starts_the_grace_anew() -> None:
    scene = Scene(db(mode="self")).promise("uid-db-0")
    scene.look(1000.0)
    scene.lease["metadata"]["resourceVersion"] = "2"
    scene.look(1003.0)
    assert released(scene.look(1000.0 + GRACE_S)) == []
    assert released(scene.look(1003.0 + GRACE_S)) == ["db-0"]


def test_a_pod_that_no_renewal_promised_is_not_released() -> None:
    scene = Scene(db(mode="self")).promise("another")
    scene.look(1000.0)
    assert released(scene.look(2000.0)) == []


def test_a_new_leader_counts_from_its_own_first_look() -> None:
    scene = Scene(db(mode="self")).promise("uid-db-0")
    scene.look(1000.0)
    scene.memory = Memory()
    assert released(scene.look(1000.0 + GRACE_S)) == []


def test_nothing_is_to_be_looked_at_again_where_no_pod_is_stopped_by_its_node() -> None:
    assert Scene(db(condemned=False), ready="True").look().wake_after_s == NEVER_S


@settings(deadline=None)
@given(
    ready=st.sampled_from(["True", "False", "Unknown"]),
    evictable=st.booleans(),
    condemned=st.booleans(),
    mode=st.sampled_from(["", "power", "self", "none"]),
    node_mode=st.sampled_from(["", "power", "self", "none"]),
    kept=st.booleans(),
    waited_s=st.floats(0, 2 * GRACE_S),
)
def test_no_pod_goes_without_proof(
    ready: str, evictable: bool, condemned: bool, mode: str, node_mode: str, kept: bool, waited_s: float
) -> None:
    """Whatever the circumstances: a delete stands behind a confirmed power-off, or behind a promise and a grace."""
    scene = Scene(db(condemned=condemned, mode=mode), ready=ready, taints=SILENT if evictable else (), mode=node_mode)
    if kept:
        scene.promise("uid-db-0")
    scene.look(1000.0)
    for step in scene.look(1000.0 + waited_s).steps:
        kinds = [type(action) for action in step.actions]
        if Delete not in kinds:
            continue
        assert ready == "Unknown"
        assert evictable
        assert condemned
        before = kinds[: kinds.index(Delete)]
        assert ConfirmUnmoved in before
        assert PowerOff in before or (kept and waited_s >= GRACE_S)


# -- applied


class Api:
    """What the applier writes to."""

    def __init__(self, version: str) -> None:
        self.version, self.written = version, list[str]()

    def get(self, resource: Any, name: str, namespace: str) -> Mapping[str, Any]:
        if not self.version:
            raise NotFound(name)
        return {"metadata": {"resourceVersion": self.version}}

    def patch(self, resource: Any, name: str, *_: Any, **__: Any) -> Mapping[str, Any]:
        self.written.append(f"patch {name}")
        return {}

    def delete(self, resource: Any, name: str, *_: Any, **__: Any) -> Mapping[str, Any]:
        self.written.append(f"delete {name}")
        return {}


class Ear:
    """Hears Events."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def event(self, about: Any, kind: str, reason: str, message: str) -> None:
        self.heard.append((about.kind, reason, message))


def carry_out(api: Api, power_off: Callable[[str], str]) -> tuple[Ear, Exception | None]:
    ear = Ear()
    applier = Applier(api, ear, {}, power_off)  # type: ignore[arg-type]
    step = next(s for s in Scene(db()).look().steps if any(isinstance(a, PowerOff) for a in s.actions))
    try:
        for action in step.actions:
            applier.perform(step, action)
    except (Conflict, FencingFailed) as error:
        applier.fail(step, error)
        return ear, error
    return ear, None


def test_the_evidence_is_told_and_the_pod_released() -> None:
    api = Api("1")
    ear, error = carry_out(api, lambda name: f"{name} was seen off")
    assert error is None
    assert api.written == ["patch db-0", "delete db-0", "patch w1"]
    assert ("Node", "Fenced", "Machine w1 is off: w1 was seen off") in ear.heard


def test_where_the_agent_cannot_confirm_nothing_is_written_and_both_are_told() -> None:
    def away(name: str) -> str:
        raise FencingFailed("the fence agent does not answer")

    api = Api("1")
    ear, error = carry_out(api, away)
    assert isinstance(error, FencingFailed)
    assert api.written == []
    assert {(kind, reason) for kind, reason, _ in ear.heard} == {("Node", "FencingFailed"), ("Pod", "FencingFailed")}
    assert all("db-0" in message and "does not answer" in message for _, _, message in ear.heard)


@pytest.mark.parametrize("version", ["2", ""])
def test_a_node_that_renewed_meanwhile_keeps_its_power(version: str) -> None:
    asked: list[str] = []
    _, error = carry_out(Api(version), lambda name: asked.append(name) or "")  # type: ignore[func-returns-value]
    assert isinstance(error, Conflict)
    assert asked == []
