"""What every ContainerRuntime promises, held by the fake and by nerdctl over containerd."""

from __future__ import annotations

import os
import threading

import pytest

from agents.kubelet.runtime import RuntimeFailure
from tests.contract.runtime.conftest import World
from tests.contract.runtime.node import IMAGE


def test_a_started_container_runs_and_is_listed_with_its_identity(world: World) -> None:
    pod = world.pod()
    identity = world.runtime.start(world.spec(pod, "sleep", "1000", attempt=2, labels={"mine": "yes"}))
    status = world.status(identity)
    assert (status.phase, status.pod, status.name, status.attempt) == ("running", pod, "main", 2)
    assert (status.image, status.labels["mine"]) == (IMAGE, "yes")
    assert status.pid > 0
    assert status.image_id.startswith("sha256:")
    assert abs(status.started_s - world.clock.now().timestamp()) < 30


def test_starting_the_same_attempt_twice_gives_the_same_container(world: World) -> None:
    spec = world.spec(world.pod(), "sleep", "1000")
    assert world.runtime.start(spec) == world.runtime.start(spec)
    assert len([status for status in world.runtime.containers() if status.pod == spec.pod]) == 1


def test_a_new_kubelet_finds_the_containers_and_sandboxes_of_the_old_one(world: World) -> None:
    spec = world.spec(world.pod(), "sleep", "1000")
    identity = world.runtime.start(spec)
    fresh = world.again()
    assert [status.id for status in fresh.containers() if status.pod == spec.pod] == [identity]
    assert spec.sandbox in fresh.sandboxes()
    assert fresh.start(spec) == identity


def test_an_exit_code_is_kept_until_the_container_is_removed(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sh", "-c", "exit 3"))
    status = world.ended(identity)
    assert (status.exit_code, status.oom_killed) == (3, False)
    assert status.finished_s >= status.started_s > 0
    world.runtime.remove(identity)
    assert identity not in {status.id for status in world.runtime.containers()}
    world.runtime.remove(identity)


def test_a_running_container_is_not_removed(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sleep", "1000"))
    with pytest.raises(RuntimeFailure) as failure:
        world.runtime.remove(identity)
    assert failure.value.reason == "RemoveContainerError"
    assert world.status(identity).phase == "running"


def test_stop_returns_once_the_container_is_dead(world: World) -> None:
    identity = world.runtime.start(
        world.spec(world.pod(), "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.05; done")
    )
    world.runtime.exec(identity, ["true"], timeout_s=20)
    world.runtime.stop(identity, grace_s=20)
    assert world.ended(identity).exit_code == 143
    world.runtime.stop(identity, grace_s=20)


def test_another_attempt_starts_beside_the_dead_one(world: World) -> None:
    pod = world.pod()
    first = world.runtime.start(world.spec(pod, "sh", "-c", "exit 1"))
    world.ended(first)
    second = world.runtime.start(world.spec(pod, "sleep", "1000", attempt=1))
    found = {status.attempt: status.phase for status in world.runtime.containers() if status.pod == pod}
    assert (first == second, found) == (False, {0: "exited", 1: "running"})


def test_a_missing_image_is_said_by_its_reason(world: World) -> None:
    with pytest.raises(RuntimeFailure) as failure:
        world.runtime.start(world.spec(world.pod(), "true", image="lab.local/none:1"))
    assert failure.value.reason == "ErrImageNeverPull"


def test_images_are_listed_by_their_names(world: World) -> None:
    assert IMAGE in {name for image in world.runtime.images() for name in image.names}


def test_a_sandbox_is_made_once_and_given_back(world: World) -> None:
    pod = world.pod()
    made = world.runtime.make_sandbox(pod, host_network=False, host_ports=())
    assert made == world.runtime.make_sandbox(pod, host_network=False, host_ports=())
    assert made in world.runtime.sandboxes()
    assert made.address
    world.runtime.remove_sandbox(pod)
    assert pod not in {sandbox.pod for sandbox in world.runtime.sandboxes()}
    world.runtime.remove_sandbox(pod)


def test_a_pod_on_the_host_network_has_no_address_of_its_own(world: World) -> None:
    made = world.runtime.make_sandbox(world.pod(), host_network=True, host_ports=())
    assert (made.address, made.netns_path) == ("", "")
    assert made in world.runtime.sandboxes()


def test_exec_gives_the_exit_code(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sleep", "1000"))
    assert world.runtime.exec(identity, ["true"], timeout_s=20).code == 0
    assert world.runtime.exec(identity, ["sh", "-c", "exit 5"], timeout_s=20).code == 5


def test_exec_in_a_dead_container_fails(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sh", "-c", "exit 0"))
    world.ended(identity)
    with pytest.raises(RuntimeFailure):
        world.runtime.exec(identity, ["true"], timeout_s=20)


def test_a_wait_ends_when_a_container_does(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sh", "-c", "sleep 0.5; exit 0"))
    began_s = world.clock.monotonic_s()
    assert world.runtime.wait_exit({identity: world.status(identity).pid}, timeout_s=20)
    assert world.clock.monotonic_s() - began_s < 10


def test_a_wait_for_nothing_ends_at_its_deadline(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sleep", "1000"))
    assert not world.runtime.wait_exit({identity: world.status(identity).pid}, timeout_s=0.2)


def test_a_wait_is_woken_when_the_set_of_containers_changes(world: World) -> None:
    identity = world.runtime.start(world.spec(world.pod(), "sleep", "1000"))
    read, write = os.pipe()
    timer = threading.Timer(0.1, lambda: os.write(write, b"x"))
    timer.start()
    began_s = world.clock.monotonic_s()
    assert not world.runtime.wait_exit({identity: world.status(identity).pid}, timeout_s=20, wake_fd=read)
    assert world.clock.monotonic_s() - began_s < 10
    timer.join()
    os.close(read)
    os.close(write)
