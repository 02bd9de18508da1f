"""A node that cannot renew its Lease stops its fenced pods before anybody else may run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.enforcer import Enforcer
from agents.kubelet.fence_folder import FenceFolder
from agents.kubelet.fencing import PATROL_S, Seen, decide, may_pet
from agents.kubelet.guard import Guard
from agents.kubelet.lease import Heartbeat
from agents.kubelet.self_fencing import Means, SelfFencing
from agents.kubelet.views import Pod
from agents.kubelet.watchdog import Watchdog
from labctl.kube.errors import Forbidden, NotFound
from labctl.kube.fencing import ANNOTATION, DRIFT, PROMISE, Bounds, Mode, mode_of, promised
from labctl.kube.meta import ObjectMeta, OwnerReference
from labctl.kube.resources import LEASES, PODS
from labctl.kube.timing import FAST, KUBERNETES, PROFILES
from labctl.runtime.loop import Backoff
from tests.unit.agents.kubelet.world import FakeApi, QuietRecorder, World, container, pod

BOUNDS = Bounds.of(FAST)
OF_A_SET = (OwnerReference(api_version="apps/v1", kind="StatefulSet", name="db", uid="s", controller=True),)


class FakeCgroups(Cgroups):
    """Pods with one process each, until it is killed."""

    def __init__(self, *alive: str) -> None:
        self.running = set(alive)
        self.termed: list[str] = []

    def members(self, path: str) -> list[int]:
        return [7] if path.removeprefix("/kubepods/pod") in self.running else []

    def terminate(self, path: str) -> None:
        self.termed.append(path.removeprefix("/kubepods/pod"))

    def kill(self, path: str) -> int:
        found = len(self.members(path))
        self.running.discard(path.removeprefix("/kubepods/pod"))
        return found


class Node:
    """A kubelet's fencing with fake control groups, a clock of its own and an API; the guard can look too."""

    def __init__(self, root: Path, *pods: str, mode: Mode = "power") -> None:
        self.now_s, self.mode = 1_000.0, mode
        self.api, self.recorder, self.cgroups = FakeApi(), QuietRecorder(), FakeCgroups()
        self.enforcer = Enforcer(FenceFolder(root / "fencing"), self.cgroups, BOUNDS, lambda: self.now_s)
        self.folder = self.enforcer.folder
        self.guard = Guard(self.enforcer, Watchdog(str(root / "no-watchdog"), BOUNDS.watchdog_s))
        self.pods = {uid: Pod(metadata=meta(uid, owner_references=OF_A_SET)) for uid in pods}
        for uid in pods:
            self.api.put(PODS, {"metadata": {"name": uid, "namespace": "default", "uid": uid}})
        self.restart()
        self.renew()
        self.cgroups.running = set(pods)

    def restart(self) -> None:
        """The kubelet starts anew."""
        self.kubelet = SelfFencing(Means(self.enforcer, self.api, self.recorder, self.mode))
        self.kubelet.follow(self.pods, {})

    def renew(self) -> None:
        self.kubelet.renewed(self.now_s)
        self.kubelet.clear()


def meta(uid: str = "a", **more: Any) -> ObjectMeta:
    return ObjectMeta(name=uid, namespace="default", uid=uid, **more)


# -- which pods


@pytest.mark.parametrize(
    ("own", "node", "default", "owned", "mode"),
    [
        ("", "", "power", True, "power"),
        ("", "self", "power", True, "self"),
        ("none", "self", "power", True, "none"),
        ("self", "", "power", False, "self"),
        ("", "self", "power", False, None),
        ("nonsense", "", "self", True, "self"),
    ],
)
def test_the_pods_annotation_goes_before_the_nodes_and_that_before_the_lab(
    own: str, node: str, default: Any, owned: bool, mode: str | None
) -> None:
    about = meta(annotations={ANNOTATION: own} if own else {}, owner_references=OF_A_SET if owned else ())
    assert mode_of(about, {ANNOTATION: node} if node else {}, default) == mode


# -- when


@pytest.mark.parametrize("profile", PROFILES.values())
def test_there_is_time_for_several_renewals_before_a_pod_is_stopped(profile: Any) -> None:
    bounds = Bounds.of(profile)
    assert 2 * profile.lease_renew_s < bounds.term_after_s < bounds.kill_after_s < bounds.dead_by_s < bounds.grace_s


def test_a_confirmed_node_stops_nothing() -> None:
    orders = decide(Seen(10.0, 9.0, frozenset("a")), BOUNDS)
    assert not orders.kill | orders.terminate


def test_pods_are_terminated_first_and_killed_later() -> None:
    asked = decide(Seen(10.0, 10.0 - BOUNDS.term_after_s, frozenset("a")), BOUNDS)
    assert (asked.terminate, asked.kill) == (frozenset("a"), frozenset())
    assert asked.wake_after_s <= BOUNDS.kill_after_s - BOUNDS.term_after_s
    assert decide(Seen(10.0, 10.0 - BOUNDS.kill_after_s, frozenset("a")), BOUNDS).kill == frozenset("a")


@pytest.mark.parametrize("confirmed_s", [None, 11.0])
def test_a_stamp_that_is_missing_or_cannot_be_confirms_nothing(confirmed_s: float | None) -> None:
    assert decide(Seen(10.0, confirmed_s, frozenset("a")), BOUNDS).kill == frozenset("a")


def test_a_silent_node_without_fenced_pods_is_looked_at_now_and_then() -> None:
    assert decide(Seen(10.0, None), BOUNDS).wake_after_s > 10 * PATROL_S
    assert decide(Seen(10.0, None, frozenset("a")), BOUNDS).wake_after_s == PATROL_S


def test_a_sealed_pod_is_killed_again_and_again_even_when_the_lease_is_well() -> None:
    orders = decide(Seen(10.0, 9.9, frozenset("ab"), frozenset("b")), BOUNDS)
    assert (orders.kill, orders.terminate, orders.wake_after_s) == (frozenset("b"), frozenset(), PATROL_S)


@settings(deadline=None)
@given(
    rate=st.floats(1 - DRIFT, 1 + DRIFT),
    renewals=st.lists(
        st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 10.0), st.floats(0.0, 10.0), st.booleans(), st.booleans()),
        max_size=12,
    ),
    kubelet_stops_s=st.floats(0.0, 30.0),
    kill_takes=st.floats(0.0, 1.0),
    late=st.floats(0.0, 1.0),
)  # fmt: skip
@pytest.mark.parametrize("profile", [FAST, KUBERNETES])
def test_pods_are_dead_before_anybody_may_release_them(
    profile: Any,
    rate: float,
    renewals: list[tuple[float, float, float, bool, bool]],
    kubelet_stops_s: float,
    kill_takes: float,
    late: float,
) -> None:
    """Renewals take any time there and back, get lost on either way; the kubelet freezes; clocks drift within bounds.

    Times are seconds of the control plane's clock. `kill_takes` and `late` share the time given to a kill.
    """
    bounds = Bounds.of(profile)
    budget_s = 0.98 * (bounds.dead_by_s - bounds.kill_after_s)
    kill_s, late_s = budget_s * kill_takes * (1 - late), budget_s * late * (1 - kill_takes)
    seen_s, acknowledged, sent_s = [0.0], [(0.0, 0.0)], 0.0  # the first renewal has just succeeded
    for pause_s, there_s, back_s, arrives, answered in renewals:
        sent_s += pause_s
        if arrives:
            seen_s.append(sent_s + there_s)
            if answered and sent_s + there_s + back_s < kubelet_stops_s:
                acknowledged.append((sent_s + there_s + back_s, sent_s))
    moved = sorted(seen_s)  # the control plane releases once it has seen nothing for a grace
    gaps = [
        at for at, following in zip(moved, [*moved[1:], float("inf")], strict=True) if following - at > bounds.grace_s
    ]
    releases_s = [at + bounds.grace_s for at in gaps]
    now, dead_s, confirmed, first = 0.0, None, 0.0, min(releases_s)
    while dead_s is None:  # the guard, until the first kill
        confirmed = max([sent for at, sent in acknowledged if at <= now], default=0.0)
        orders = decide(Seen(now * rate, confirmed * rate, frozenset("a")), bounds)
        if orders.kill:
            dead_s = now + kill_s / rate
        else:
            now += orders.wake_after_s / rate + (late_s / rate if orders.terminate else 0.0)
        if dead_s is None and now > first:
            pytest.fail(f"alive at {now}, released at {first}")
    assert dead_s <= first + 1e-6


@settings(deadline=None)
@given(age_s=st.floats(0, 60), profile=st.sampled_from([FAST, KUBERNETES]))
def test_the_watchdog_is_put_off_only_while_its_reset_would_still_come_in_time(age_s: float, profile: Any) -> None:
    bounds = Bounds.of(profile)
    seen = Seen(100.0, 100.0 - age_s, frozenset("a"))
    if may_pet(seen, bounds, alive=True):
        assert age_s + bounds.watchdog_s <= bounds.dead_by_s + 1e-9
    assert may_pet(seen, bounds, alive=False)
    assert may_pet(Seen(100.0, 100.0 - profile.lease_renew_s * 1.5, frozenset("a")), bounds, alive=True)


# -- guard and kubelet


def test_the_guard_alone_stops_the_pods_of_a_frozen_kubelet(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    for _ in range(100):
        node.now_s += node.guard.step()
        if not node.cgroups.running:
            break
    assert set(node.cgroups.termed) == {"a"}
    assert not node.cgroups.running
    assert node.now_s <= 1_000.0 + BOUNDS.dead_by_s
    assert node.folder.sealed() == {"a"}


def test_a_start_that_comes_late_is_killed_until_the_api_was_asked(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.now_s += 60.0
    node.guard.step()
    node.kubelet.renewed(node.now_s)
    node.cgroups.running.add("a")  # the runtime was hung and gets to it only now
    node.guard.step()
    assert not node.cgroups.running
    assert node.kubelet.held("a")
    node.kubelet.clear()
    assert not node.kubelet.held("a")
    node.cgroups.running.add("a")
    node.guard.step()
    assert node.cgroups.running == {"a"}


def test_a_guard_that_looked_before_the_pod_was_unsealed_lets_it_live(tmp_path: Path) -> None:
    class Overtaken(FenceFolder):
        """Between the guard's look and its act the kubelet renews, asks, and unseals."""

        def sealed(self) -> frozenset[str]:
            found = super().sealed()
            self.unseal("a")
            return found

    node = Node(tmp_path, "a")
    node.folder.seal("a")
    guard = Enforcer(Overtaken(tmp_path / "fencing"), node.cgroups, BOUNDS, lambda: node.now_s)
    guard.step()
    assert node.cgroups.running == {"a"}
    assert node.folder.sealed() == frozenset()


def test_a_seal_that_comes_after_the_apis_word_is_asked_about_again(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.folder.seal("a")  # by a guard whose look was older than the renewal
    assert node.kubelet.held("a")
    node.kubelet.patrol()
    assert node.kubelet.wake.wait_s(0.0)
    node.kubelet.clear()
    assert not node.kubelet.held("a")
    assert node.folder.sealed() == frozenset()


@pytest.mark.parametrize("fate", ["condemned", "replaced", "gone", "unknown"])
def test_after_a_silence_only_a_pod_that_is_still_ours_starts_again(tmp_path: Path, fate: str) -> None:
    node = Node(tmp_path, "a")
    node.now_s += 60.0
    node.guard.step()
    if fate == "condemned":
        node.api.ask_to_delete("a")
    elif fate == "replaced":
        node.api.put(PODS, {"metadata": {"name": "a", "namespace": "default", "uid": "other"}})
    elif fate == "gone":
        node.api.force_delete("a")
    node.kubelet.renewed(node.now_s)
    node.api.down = fate == "unknown"
    assert node.kubelet.clear() is (fate == "unknown")
    assert node.kubelet.held("a")
    assert node.folder.sealed() == {"a"}
    assert [reason for reason, _ in node.recorder.told] == ["SelfFenced"]


class Counted:
    """How often the API was asked about a pod that has another fate than to be ours."""

    def __init__(self, node: Node, fate: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, self.fate, self._plain = 0, fate, node.api.get
        monkeypatch.setattr(node.api, "get", self._get)

    def _get(self, *asked: Any, **options: Any) -> Any:
        self.times += 1
        if self.fate == "elsewhere":
            raise Forbidden('pods "a" is forbidden: no relationship found between the node and the pod')
        if self.fate == "gone":
            raise NotFound('pods "a" not found')
        found = self._plain(*asked, **options)
        return {"metadata": {**found["metadata"], "uid": "other"}} if self.fate == "replaced" else found


def ask_for_s(node: Node, seconds: float) -> None:
    """Renew the Lease and ask as the kubelet's own threads would, for so long."""
    end_s, backoff = node.now_s + seconds, Backoff(0.1, 1.0)
    renew_s = ask_s = node.now_s
    while node.now_s < end_s:
        if renew_s <= node.now_s:
            node.kubelet.renewed(node.now_s)
            renew_s += FAST.lease_renew_s
        if ask_s <= node.now_s or node.kubelet.wake.wait_s(0.0):
            wait_s = node.kubelet.inquire(backoff)
            assert wait_s > 0
            ask_s = node.now_s + wait_s
        node.now_s = min(renew_s, ask_s)


@pytest.mark.parametrize("fate", ["elsewhere", "gone", "replaced"])
def test_a_pod_that_is_another_nodes_by_now_is_asked_about_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    node = Node(tmp_path, "a")
    node.restart()
    asked = Counted(node, fate, monkeypatch)
    ask_for_s(node, 300.0)
    assert 30 <= asked.times <= 70  # every 5 to 10 s in the end
    assert node.kubelet.held("a")
    asked.fate = "ours"
    ask_for_s(node, 11.0)
    assert not node.kubelet.held("a")


def test_after_a_silence_what_was_denied_before_is_asked_about_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path, "a")
    node.restart()
    asked = Counted(node, "elsewhere", monkeypatch)
    ask_for_s(node, 100.0)
    asked.fate = "ours"
    node.now_s += 60.0
    node.renew()
    assert not node.kubelet.held("a")


def test_a_silence_too_short_to_release_anything_costs_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.now_s += BOUNDS.term_after_s - 0.1
    node.guard.step()
    assert not node.kubelet.held("a")
    node.now_s += 0.2
    assert node.kubelet.held("a")
    node.renew()
    assert not node.kubelet.held("a")
    assert node.cgroups.running == {"a"}


def test_a_thawed_kubelet_whose_guard_died_too_leaves_nothing_running(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.now_s += 60.0
    node.kubelet.renewed(node.now_s)
    assert not node.cgroups.running
    assert node.kubelet.held("a")


def test_a_kubelet_that_restarts_quickly_stops_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.now_s += 2.0
    node.restart()
    assert node.kubelet.held("a")  # not asked yet
    node.renew()
    assert not node.kubelet.held("a")
    assert node.cgroups.running == {"a"}


def test_a_pod_stays_fenced_when_its_annotation_changes_and_is_forgotten_when_it_is_gone(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.kubelet.follow(node.pods, {ANNOTATION: "none"})
    assert node.folder.pods() == {"a"}
    node.kubelet.follow({}, {})
    assert node.folder.pods() == frozenset()


def test_pods_of_no_stateful_set_are_left_alone(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.kubelet.follow({"d": Pod(metadata=meta("d"))}, {})
    assert node.folder.pods() == frozenset()
    assert not node.kubelet.held("d")


def test_a_renewal_promises_the_pods_only_while_a_guard_stands_by(tmp_path: Path) -> None:
    node = Node(tmp_path, "a", "b")
    node.api.put(LEASES, {"metadata": {"name": "worker1", "namespace": "kube-node-lease"}, "spec": {}})
    clock_patch = _annotating(node.api)
    heartbeat = Heartbeat(node.api, "worker1", FAST, World(tmp_path).clock, node.kubelet)
    heartbeat.beat()
    assert promised(clock_patch()) == frozenset()
    node.guard.step()
    heartbeat.beat()
    assert promised(clock_patch()) == {"a", "b"}
    assert node.folder.confirmed_s() == node.now_s
    node.now_s += BOUNDS.term_after_s + 0.1  # the guard looks no more
    heartbeat.beat()
    assert promised(clock_patch()) == frozenset()


def test_a_renewal_counts_from_when_it_was_sent_and_not_at_all_when_it_fails(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.api.put(LEASES, {"metadata": {"name": "worker1", "namespace": "kube-node-lease"}, "spec": {}})
    _annotating(node.api, while_sending=lambda: setattr(node, "now_s", node.now_s + 0.7))
    heartbeat = Heartbeat(node.api, "worker1", FAST, World(tmp_path).clock, node.kubelet)
    heartbeat.beat()
    assert node.folder.confirmed_s() == 1_000.0
    node.api.down = True
    heartbeat.beat()
    assert node.folder.confirmed_s() == 1_000.0


def _annotating(api: FakeApi, while_sending: Callable[[], None] = lambda: None) -> Callable[[], ObjectMeta]:
    """Let the fake API keep annotations; what a Lease has of them."""
    kept: dict[str, str] = {}
    plain = api.patch

    def patch(resource: Any, name: str, body: Any, namespace: str = "", **options: Any) -> Any:
        while_sending()
        answer = plain(resource, name, {key: body[key] for key in body if key != "metadata"}, namespace, **options)
        kept.update(body.get("metadata", {}).get("annotations", {}))
        return answer

    api.patch = patch  # type: ignore[method-assign]
    return lambda: ObjectMeta(annotations={PROMISE: kept.get(PROMISE) or ""})


# -- the pod loop


class Gate:
    """Fencing that a test opens and shuts."""

    def __init__(self) -> None:
        self.shut = True

    def follow(self, pods: Any, annotations: Any) -> None:
        pass

    def held(self, uid: str) -> bool:
        return self.shut


def test_a_held_pod_is_prepared_but_not_started(tmp_path: Path) -> None:
    gate = Gate()
    world = World(tmp_path, pod(containers=[container("app")]), fencing=gate)
    world.settle()
    assert world.running() == []
    assert world.runtime.sandboxes()
    gate.shut = False
    world.settle()
    assert world.running() == ["web/app:0"]


def test_a_container_that_was_stopped_by_fencing_starts_in_place_once_it_may(tmp_path: Path) -> None:
    gate = Gate()
    gate.shut = False
    world = World(tmp_path, pod(), fencing=gate)
    world.settle()
    gate.shut = True
    world.runtime.kill(world.runtime.running()[0].id)
    world.run(5)
    assert world.running() == []
    gate.shut = False
    world.run(2)
    assert world.running() == ["web/app:1"]


def test_a_start_that_waited_in_its_lane_is_not_made_once_the_pod_is_held(tmp_path: Path) -> None:
    gate = Gate()
    gate.shut = False
    world = World(tmp_path, pod(), fencing=gate)
    world.executor.held = []
    for _ in range(5):
        world.step()
        for work in list(world.executor.held):
            if len(world.runtime.sandboxes()) and world.volumes.prepared and len(world.executor.held) == 1:
                gate.shut = True  # only the start is left
            world.executor.held.remove(work)
            work()
    assert world.running() == []


# -- the watchdog


class Dog(Watchdog):
    """A watchdog that notes when it was put off."""

    def __init__(self, node: Node) -> None:
        super().__init__("", BOUNDS.watchdog_s)
        self.node, self.petted_s, self.is_armed = node, -1.0, False

    def arm(self) -> bool:
        if not self.is_armed:
            self.petted_s = self.node.now_s
        self.is_armed = True
        return True

    def pet(self) -> None:
        self.petted_s = self.node.now_s

    def disarm(self) -> None:
        self.is_armed = False


def patrol(node: Node, dog: Dog, until_s: float) -> float:
    """Let the guard look until then; when the watchdog would have reset the machine by itself, if it would."""
    guard = Guard(node.enforcer, dog)
    while node.now_s < until_s:
        node.now_s += guard.step()
        if dog.is_armed and node.now_s - dog.petted_s > BOUNDS.watchdog_s:
            return dog.petted_s + BOUNDS.watchdog_s
    return float("inf")


def test_pods_that_cannot_be_killed_end_with_a_reset_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, "a", mode="self")
    monkeypatch.setattr(node.cgroups, "kill", lambda path: 0)
    assert patrol(node, Dog(node), 1_010.0) <= 1_000.0 + BOUNDS.dead_by_s + PATROL_S


def test_a_silence_that_the_pods_did_not_survive_resets_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, "a", mode="self")
    assert patrol(node, Dog(node), 1_060.0) == float("inf")
    assert not node.cgroups.running


def test_a_machine_is_not_reset_for_pods_that_nobody_relies_on_it_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `power` the machine is seen off before the name is free; one that is only slow comes back with its pods."""
    node = Node(tmp_path, "a", mode="power")
    monkeypatch.setattr(node.cgroups, "kill", lambda path: 0)
    assert patrol(node, Dog(node), 1_010.0) == float("inf")


def test_once_relied_on_a_pod_stays_so_while_it_is_here(tmp_path: Path) -> None:
    node = Node(tmp_path, "a", mode="power")
    assert node.folder.relied() == set()
    node.kubelet.follow(node.pods, {ANNOTATION: "self"})
    node.kubelet.follow(node.pods, {})
    assert node.folder.relied() == {"a"}
    node.kubelet.follow({}, {})
    assert node.folder.relied() == set()


def test_the_watchdog_is_armed_only_while_there_is_a_pod_to_stop(tmp_path: Path) -> None:
    node = Node(tmp_path, "a", mode="self")
    dog = Dog(node)
    Guard(node.enforcer, dog).step()
    assert dog.is_armed
    node.kubelet.follow({}, {})
    Guard(node.enforcer, dog).step()
    assert not dog.is_armed


def test_a_machine_without_a_watchdog_is_guarded_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("nothing", "file"):
        dog = Watchdog(str(tmp_path / path), 2)
        assert not dog.arm()
        assert not dog.armed
