"""What the kubelet keeps to when it, the API, the runtime or the machine fails."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.kubelet.fake import Script
from agents.kubelet.memory import Memory
from agents.kubelet.runtime import ExecResult, RuntimeFailure
from agents.kubelet.views import read_pod
from labctl.kube.errors import ApiError, Forbidden, Invalid, Unavailable
from labctl.kube.resources import PODS
from tests.unit.agents.kubelet.world import Crash, World, container, pod


def test_a_kubelet_that_restarts_touches_no_running_container(tmp_path: Path) -> None:
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 10}
    world = World(tmp_path, pod(containers=[container("app", readinessProbe=probe)]))
    world.run(15)
    before, written = world.runtime.containers(), len(world.api.patches)
    world.runtime.answer("app", ExecResult(1, ""))  # not asked yet: what was ready stays so
    world.restart()
    world.observer.observe()
    world.sync.step()
    world.observer.observe()
    world.sync.step()
    assert world.runtime.containers() == before
    assert len(world.api.patches) == written


def test_containers_restart_in_place_after_a_reboot(tmp_path: Path) -> None:
    world = World(tmp_path, pod(initContainers=[container("one", command=["true"])]))
    world.settle()
    address = world.status()["podIP"]
    world.runtime.reboot()
    world.clock.advance(20)
    world.restart()
    world.settle()
    assert world.running() == ["web/app:1"]
    assert world.state()["restartCount"] == 1
    assert world.status()["initContainerStatuses"][0]["restartCount"] == 1
    assert world.status()["podIP"] != address
    assert world.api.pod("web")["metadata"]["uid"] == "uid-web"
    assert world.api.deleted == []


def test_a_pod_that_never_restarts_fails_by_a_reboot(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never"))
    world.settle()
    world.runtime.reboot()
    world.restart()
    world.settle()
    assert world.running() == []
    assert world.status()["phase"] == "Failed"


def test_restart_counts_go_on_where_the_runtime_has_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.runtime.reboot()
    for entry in world.runtime.containers():
        world.runtime.remove(entry.id)
    world.restart()
    world.settle()
    assert world.state()["restartCount"] == 1


def test_containers_run_on_while_the_api_is_away(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.api.down = True
    world.api.frozen = world.api.snapshot()
    world.runtime.kill(world.runtime.running()[0].id)
    world.run(10)
    assert world.running() == ["web/app:1"]
    world.api.down, world.api.frozen = False, None
    world.run(15)
    assert world.state()["restartCount"] == 1


def test_condemned_pods_die_when_a_partition_heals_and_nothing_stale_is_written(tmp_path: Path) -> None:
    world = World(tmp_path, pod(), pod("other"))
    world.settle()
    world.api.frozen = world.api.snapshot()
    world.api.force_delete("web")  # evicted and collected meanwhile
    world.api.put(PODS, pod("web", uid="uid-elsewhere", nodeName="worker2"))
    world.runtime.kill(next(entry.id for entry in world.runtime.running() if entry.pod.name == "web"))
    world.run(5)
    assert world.api.pod("web")["status"]["phase"] == "Pending"  # the write had the old uid on it
    world.api.frozen = {key: raw for key, raw in world.api.frozen.items() if "other" in key}
    world.settle()
    assert world.running() == ["other/app:0"]
    assert world.api.deleted == []


def test_orphans_of_an_earlier_kubelet_are_removed(tmp_path: Path) -> None:
    world = World(tmp_path, pod(), pod("other"))
    world.settle()
    world.volumes.kept.add("uid-of-long-ago")
    world.api.force_delete("web")
    world.restart()
    world.settle()
    assert world.running() == ["other/app:0"]
    assert [sandbox.pod.name for sandbox in world.runtime.sandboxes()] == ["other"]
    assert world.volumes.kept == {"uid-other"}


def test_nothing_is_an_orphan_before_the_api_has_answered(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.restart()
    unsynced = type("Unsynced", (), {"synced": False, "snapshot": lambda self: {}})()
    world.sync._parts = type(world.sync._parts)(
        **{name: getattr(world.sync._parts, name) for name in world.sync._parts.__slots__} | {"pods": unsynced}
    )
    world.settle()
    assert world.running() == ["web/app:0"]


def test_a_pod_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    document = world.api.pod("web")
    document["spec"]["containers"] = "nonsense"
    world.api.put(PODS, document)
    world.settle()
    world.restart()
    world.settle()
    assert world.running() == ["web/app:0"]


def test_a_runtime_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.runtime.fail("containers", *[RuntimeFailure("containerd is away", reason="ContainerRuntimeNotReady")] * 5)
    for _ in range(5):
        world.step()
    assert world.observer.error == "containerd is away"
    assert world.running() == ["web/app:0"]
    world.settle()
    assert world.observer.error == ""


def test_a_refused_status_is_not_repeated_and_holds_no_deletion(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    asked: list[object] = []

    def refuse(*args: object, **options: object) -> dict[str, object]:
        asked.append(args)
        raise Invalid("status: nonsense")

    world.api.patch = refuse  # type: ignore[method-assign]
    world.run(30)
    assert world.running() == ["web/app:0"]
    assert len(asked) < 10
    world.api.ask_to_delete("web")
    world.run(5)
    assert world.api.deleted == ["web"]


@pytest.mark.parametrize(("error", "most"), [(Forbidden("another node's"), 15), (Unavailable("nobody answers"), 40)])
def test_what_the_api_forbids_is_tried_more_rarely_than_what_waits_for_it(
    tmp_path: Path, error: ApiError, most: int
) -> None:
    world = World(tmp_path, pod())
    asked: list[object] = []

    def fail(*args: object, **options: object) -> dict[str, object]:
        asked.append(args)
        raise error

    world.api.patch = fail  # type: ignore[method-assign]
    world.run(60)
    assert most / 2 < len(asked) < most


def test_an_answer_that_differs_from_what_we_wrote_is_not_written_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    patch = world.api.patch

    def stubborn(*args: object, **options: object) -> dict[str, object]:
        args[2]["status"].pop("qosClass", None)  # type: ignore[index]
        return patch(*args, **options)  # type: ignore[arg-type]

    world.api.patch = stubborn  # type: ignore[method-assign]
    world.run(30)
    assert len(world.api.patches) < 10
    assert world.status()["phase"] == "Running"


ACTIONS = st.lists(
    st.sampled_from(["crash", "kill", "delete", "add", "pass", "wait", "reboot", "fail"]), min_size=5, max_size=25
)


@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS, cuts=st.lists(st.integers(0, 6), min_size=25, max_size=25))
def test_whatever_happens_the_node_converges_and_no_container_is_doubled(actions: list[str], cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root), pod("a", initContainers=[container("first")]), pod("b"))
        world.runtime.behave("first", Script(lasts_s=1))
        serial = 0
        for action, cut in zip(actions, cuts, strict=False):
            if action == "crash":
                world.executor.left = cut
                with contextlib.suppress(Crash):
                    world.settle(5)
                world.executor.left = None
                world.restart()
            elif action == "kill" and world.runtime.running():
                world.runtime.kill(world.runtime.running()[cut % len(world.runtime.running())].id)
            elif action == "delete" and "b" in {key[2] for key in world.api.objects}:
                world.api.ask_to_delete("b", grace_s=2)
            elif action == "add" and "b" not in {key[2] for key in world.api.objects}:
                serial += 1
                world.api.put(PODS, pod("b", uid=f"uid-b{serial}"))
            elif action == "reboot":
                world.runtime.reboot()
                world.restart()
            elif action == "fail":
                world.runtime.fail("start", RuntimeFailure("no luck", reason="RunContainerError"))
            elif action == "wait":
                world.clock.advance(cut)
            world.step()
        world.run(150, every_s=2)
        assert world.runtime.doubled == []
        alive = {key[2] for key in world.api.objects if key[0] == "pods"}
        assert {entry.pod.name for entry in world.runtime.running()} == alive
        assert len(world.runtime.running()) == len(alive)
        assert {s.pod.uid for s in world.runtime.sandboxes()} == {
            document["metadata"]["uid"] for key, document in world.api.objects.items() if key[0] == "pods"
        }
        assert all(world.status(name)["phase"] == "Running" for name in alive)
        assert not any(memory.removed for memory in world.sync.roster.memories.values())


def test_the_answer_to_a_write_does_not_take_back_what_the_watch_has_told_since() -> None:
    """Else every later write is a conflict with a version that nobody will tell of again."""
    known = read_pod(msgspec.Raw(json.dumps(_at("7", {"phase": "Running"})).encode()))
    memory = Memory(known)
    memory.take(known, {"phase": "Running"})
    newer = read_pod(msgspec.Raw(json.dumps(_at("9", {"phase": "Running", "reason": "NodeLost"})).encode()))
    memory.take(newer, {"phase": "Running", "reason": "NodeLost"})
    memory.wrote(_at("8", {"phase": "Running"}), {"phase": "Running"}, {})
    assert memory.base_revision == "9"
    assert memory.base["reason"] == "NodeLost"
    memory.wrote(_at("10", {"phase": "Failed"}), {"phase": "Failed"}, {})
    assert (memory.base_revision, memory.pod.status.phase) == ("10", "Failed")


def _at(revision: str, status: dict[str, str]) -> dict[str, Any]:
    found = pod()
    found["metadata"]["resourceVersion"] = revision
    return {**found, "status": status}
