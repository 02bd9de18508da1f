"""A pod from binding to deletion, as a user of Kubernetes expects it: the whole kubelet on a fake clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.kubelet.fake import Script
from agents.kubelet.runtime import ExecResult, RuntimeFailure
from labctl.kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES
from tests.unit.agents.kubelet.world import World, container, pod


def test_a_bound_pod_runs_and_is_ready(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    assert world.running() == ["web/app:0"]
    status = world.status()
    assert status["phase"] == "Running"
    assert world.condition("Ready")["status"] == "True"
    assert {c["type"] for c in status["conditions"]} == {
        "PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready",
    }  # fmt: skip
    assert status["podIP"].startswith("10.244.")
    assert status["hostIP"] == "10.0.0.11"
    assert status["qosClass"] == "BestEffort"
    assert world.state()["state"]["running"]["startedAt"]
    assert world.state()["containerID"].startswith("containerd://")


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    written = len(world.api.patches)
    world.run(120)
    assert len(world.api.patches) == written


def test_a_pod_waits_for_the_nodes_pod_network(tmp_path: Path) -> None:
    world = World(tmp_path, pod(), pod("host", hostNetwork=True))
    world.facts = type(world.facts)("10.0.0.11", {}, world.facts.allocatable, network_ready=False)
    world.settle()
    assert world.running() == ["host/app:0"]
    assert world.state()["state"] == {"waiting": {"reason": "ContainerCreating"}}
    world.facts = type(world.facts)("10.0.0.11", {}, world.facts.allocatable, network_ready=True)
    world.settle()
    assert world.running() == ["host/app:0", "web/app:0"]
    assert world.status("host")["podIP"] == "10.0.0.11"


def test_init_containers_run_one_after_another_before_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, pod(initContainers=[container("one"), container("two")]))
    world.runtime.behave("one", Script(lasts_s=5))
    world.runtime.behave("two", Script(lasts_s=5))
    world.settle()
    assert world.running() == ["web/one:0"]
    assert world.status()["phase"] == "Pending"
    assert world.state()["state"]["waiting"]["reason"] == "PodInitializing"
    assert world.condition("Initialized")["message"] == "containers with incomplete status: [one two]"
    world.run(5.5)
    assert world.running() == ["web/two:0"]
    world.run(5.5)
    assert world.running() == ["web/app:0"]
    assert world.status()["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert world.status()["initContainerStatuses"][0]["ready"] is True
    assert world.condition("Initialized")["status"] == "True"


def test_a_failing_init_container_fails_a_pod_that_never_restarts(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never", initContainers=[container("one", command=["false"])]))
    world.settle()
    assert world.status()["phase"] == "Failed"
    assert world.running() == []


def test_a_sidecar_starts_first_runs_beside_and_stops_last(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never", initContainers=[container("proxy", restartPolicy="Always")]))
    world.runtime.behave("app", Script(lasts_s=10))
    world.settle()
    assert world.running() == ["web/app:0", "web/proxy:0"]
    world.run(11)
    assert world.running() == []
    assert world.status()["phase"] == "Succeeded"


def test_a_crashing_container_is_restarted_ever_more_slowly(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.runtime.behave("app", Script(lasts_s=0.5, exit_code=1))
    starts: dict[int, float] = {}
    for _ in range(600):
        world.settle()
        for entry in world.runtime.containers():
            starts.setdefault(entry.attempt, entry.started_s)
        world.clock.advance(0.1)
    gaps = [round(starts[k + 1] - starts[k] - 0.5) for k in sorted(starts)[:-1]]
    assert gaps == [0, 1, 2, 4, 8, 16]
    world.run(1)
    state = world.state()
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "restarting failed container=app pod=web_default(uid-web)" in state["state"]["waiting"]["message"]
    assert state["lastState"]["terminated"]["exitCode"] == 1
    assert state["restartCount"] == 6
    assert {reason for reason, _ in world.recorder.told} >= {"Started", "BackOff"}
    assert world.condition("Ready")["reason"] == "ContainersNotReady"


def test_only_the_last_dead_containers_are_kept(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.runtime.behave("app", Script(lasts_s=0.1, exit_code=1))
    world.run(20)
    assert len(world.runtime.containers()) <= 2


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")],
)
def test_a_pod_that_is_done_says_how_and_gives_its_address_back(
    tmp_path: Path, policy: str, code: int, phase: str
) -> None:
    world = World(tmp_path, pod(restartPolicy=policy))
    world.runtime.behave("app", Script(lasts_s=1, exit_code=code))
    world.run(3)
    assert world.status()["phase"] == phase
    assert world.state()["state"]["terminated"]["exitCode"] == code
    assert world.runtime.sandboxes() == []
    assert world.status()["podIP"]
    assert world.condition("Ready")["reason"] == ("PodCompleted" if phase == "Succeeded" else "PodFailed")
    world.run(60)
    assert world.running() == []


def test_out_of_memory_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never"))
    world.runtime.behave("app", Script(lasts_s=1, exit_code=137, oom_killed=True))
    world.run(3)
    assert world.state()["state"]["terminated"]["reason"] == "OOMKilled"


def test_deletion_stops_cleans_and_then_confirms(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.api.ask_to_delete("web")
    world.settle()
    assert world.api.deleted == ["web"]
    assert world.runtime.containers() == []
    assert world.runtime.sandboxes() == []
    assert world.volumes.kept == set()
    assert not (tmp_path / "kubelet/pods/uid-web").exists()


def test_deletion_is_not_confirmed_while_a_container_runs(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.executor.held = []
    world.api.ask_to_delete("web")
    for _ in range(5):
        world.step()
    assert world.api.deleted == []
    held, world.executor.held = world.executor.held, None
    for work in held:
        work()
    world.settle()
    assert world.api.deleted == ["web"]


def test_deletion_waits_for_a_start_that_is_under_way(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.executor.held = []
    for _ in range(20):
        world.step()
        setup = [work for work in world.executor.held if "start" not in str(work.args[1])]  # type: ignore[attr-defined]
        world.executor.held = [work for work in world.executor.held if work not in setup]
        for work in setup:
            work()
    assert len(world.executor.held) == 1  # the start hangs
    world.api.ask_to_delete("web")
    late, world.executor.held = world.executor.held, None
    world.settle()
    assert world.api.deleted == []
    late[0]()
    world.settle()
    assert world.api.deleted == ["web"]
    assert world.runtime.containers() == []


def test_the_final_state_is_told_before_the_pod_goes(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never"))
    world.settle()
    world.api.ask_to_delete("web")
    world.settle()
    last = world.api.patches[-1]["status"]
    assert last["phase"] == "Failed"
    assert last["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


def test_a_prestop_hook_runs_before_the_signal(tmp_path: Path) -> None:
    hook = {"preStop": {"sleep": {"seconds": 5}}}
    world = World(tmp_path, pod(containers=[container("app", lifecycle=hook)]))
    world.settle()
    world.api.ask_to_delete("web")
    before_s = world.clock.monotonic_s()
    world.settle()
    assert world.clock.monotonic_s() - before_s == 5
    assert world.api.deleted == ["web"]


def test_a_failed_prestop_hook_does_not_hold_the_pod(tmp_path: Path) -> None:
    hook = {"preStop": {"exec": {"command": ["false"]}}}
    world = World(tmp_path, pod(containers=[container("app", lifecycle=hook)]))
    world.settle()
    world.api.ask_to_delete("web")
    world.settle()
    assert world.api.deleted == ["web"]
    assert "FailedPreStopHook" in {reason for reason, _ in world.recorder.told}


def test_a_forced_deletion_still_kills_the_containers(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.api.force_delete("web")
    world.settle()
    assert world.runtime.containers() == []
    assert world.runtime.sandboxes() == []


def test_a_namesake_with_another_uid_is_another_pod(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.api.put(PODS, pod(uid="uid-second"))
    world.settle()
    assert {entry.pod.uid for entry in world.runtime.running()} == {"uid-second"}
    assert world.status()["phase"] == "Running"
    assert world.api.deleted == []


def test_liveness_failure_restarts_the_container(tmp_path: Path) -> None:
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 2}
    world = World(tmp_path, pod(containers=[container("app", livenessProbe=probe)]))
    world.run(5)
    assert world.running() == ["web/app:0"]
    world.runtime.answer("app", ExecResult(1, "not well"))
    world.run(2.5)
    world.runtime.answer("app", ExecResult(0, ""))
    world.run(3)
    assert world.running() == ["web/app:1"]
    assert world.state()["restartCount"] == 1
    assert ("Unhealthy", "Liveness probe failed: not well") in world.recorder.told


def test_readiness_decides_the_ready_condition_and_nothing_else(tmp_path: Path) -> None:
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
    world = World(tmp_path, pod(containers=[container("app", readinessProbe=probe)]))
    world.runtime.answer("app", ExecResult(1, ""))
    world.run(5)
    assert world.condition("Ready")["status"] == "False"
    assert world.state()["started"] is True
    world.runtime.answer("app", ExecResult(0, ""))
    world.run(2)
    assert world.condition("Ready")["status"] == "True"
    assert world.running() == ["web/app:0"]


def test_a_startup_probe_holds_the_others_back(tmp_path: Path) -> None:
    startup = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 10}
    liveness = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
    world = World(tmp_path, pod(containers=[container("app", startupProbe=startup, livenessProbe=liveness)]))
    world.runtime.answer("app", ExecResult(1, ""))
    world.run(5)
    assert world.running() == ["web/app:0"]
    assert world.state()["started"] is False
    world.runtime.answer("app", ExecResult(0, ""))
    world.run(2)
    assert world.state()["started"] is True
    assert world.condition("Ready")["status"] == "True"


def test_a_missing_image_backs_off(tmp_path: Path) -> None:
    world = World(tmp_path, pod(containers=[container("app", image="nowhere:1")]))
    world.settle()
    assert world.state()["state"]["waiting"]["reason"] == "ErrImagePull"
    world.run(0.6, every_s=0.1)
    assert world.state()["state"]["waiting"]["reason"] == "ImagePullBackOff"
    world.runtime.add_image("nowhere:1")
    world.run(5)
    assert world.running() == ["web/app:0"]


def test_an_image_is_pulled_by_its_policy(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        pod("a", containers=[container("app", image="remote:1")]),
        pod("b", containers=[container("app", image="nowhere:1", imagePullPolicy="Never")]),
        pod("c", containers=[container("app", imagePullPolicy="Always")]),
    )
    world.settle()
    assert world.running() == ["a/app:0"]
    assert world.state("b")["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    assert world.state("c")["state"]["waiting"]["reason"] == "ErrImagePull"


def test_env_comes_from_fields_config_maps_and_secrets(tmp_path: Path) -> None:
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "BOTH", "value": "$(POD)-$(COLOUR)-$(NONE)-$$(POD)"},
    ]
    world = World(tmp_path, pod(containers=[container("app", env=env, args=["--name=$(POD)"])]))
    world.settle()
    assert world.state()["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert "not found" in world.state()["state"]["waiting"]["message"]
    world.api.put(CONFIG_MAPS, {"metadata": {"name": "settings", "namespace": "default"}, "data": {"colour": "blue"}})
    world.api.put(SECRETS, {"metadata": {"name": "keys", "namespace": "default"}, "data": {"token": "c2VjcmV0"}})
    world.run(2)
    spec = world.runtime.spec_of(world.runtime.running()[0].id)
    assert spec.env["BOTH"] == "web-blue-$(NONE)-$(POD)"
    assert spec.env["TOKEN"] == "secret"
    assert spec.env["IP"] == world.status()["podIP"]
    assert spec.args == ("--name=web",)


def test_containers_find_services_in_their_environment(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name, namespace, address in (("kubernetes", "default", "10.96.0.1"), ("my-db", "default", "10.96.0.7")):
        spec = {"clusterIP": address, "ports": [{"name": "main", "port": 443, "protocol": "TCP"}]}
        world.api.put(SERVICES, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
    world.api.put(PODS, pod())
    world.api.put(PODS, pod("plain", enableServiceLinks=False))
    world.settle()
    env = {entry.pod.name: world.runtime.spec_of(entry.id).env for entry in world.runtime.running()}
    assert env["plain"]["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert "MY_DB_SERVICE_HOST" not in env["plain"]
    assert env["web"]["MY_DB_SERVICE_PORT_MAIN"] == "443"
    assert env["web"]["MY_DB_PORT_443_TCP_ADDR"] == "10.96.0.7"


def test_a_new_image_restarts_the_container_in_place(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    document = world.api.pod("web")
    document["spec"]["containers"][0]["image"] = "remote:1"
    world.api.put(PODS, document)
    world.settle()
    assert world.running() == ["web/app:1"]
    assert world.state()["image"] == "remote:1"


def test_the_active_deadline_ends_a_pod(tmp_path: Path) -> None:
    world = World(tmp_path, pod(activeDeadlineSeconds=10))
    world.run(9)
    assert world.running() == ["web/app:0"]
    world.run(2)
    assert world.running() == []
    assert (world.status()["phase"], world.status()["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_pod_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    big = container("app", resources={"requests": {"cpu": "3"}})
    second = pod("second", containers=[big])
    second["metadata"]["creationTimestamp"] = "2026-01-01T00:00:01Z"
    world = World(tmp_path, pod("first", containers=[big]), second, pod("picky", nodeSelector={"disk": "tape"}))
    world.settle()
    assert world.running() == ["first/app:0"]
    assert (world.status("second")["phase"], world.status("second")["reason"]) == ("Failed", "OutOfcpu")
    assert world.status("picky")["reason"] == "NodeAffinity"


def test_a_pod_that_others_failed_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    document = world.api.pod("web")
    document["status"]["phase"] = "Failed"
    world.api.put(PODS, document)
    world.settle()
    assert world.running() == []
    assert world.status()["phase"] == "Failed"


def test_a_condition_moves_only_when_its_status_does(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    before = world.condition("Ready")["lastTransitionTime"]
    world.clock.advance(60)
    document = world.api.pod("web")
    document["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    world.api.put(PODS, document)
    world.settle()
    assert world.condition("Ready")["lastTransitionTime"] == before
    assert world.condition("DisruptionTarget")["status"] == "True"


def test_what_the_node_controller_said_in_our_absence_is_put_right(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    document = world.api.pod("web")
    for entry in document["status"]["conditions"]:
        if entry["type"] == "Ready":
            entry["status"] = "False"
    world.api.put(PODS, document)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_a_sandbox_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.runtime.fail("make_sandbox", RuntimeFailure("no address left", reason="FailedCreatePodSandBox"))
    world.settle()
    assert world.running() == []
    assert world.state()["state"]["waiting"]["reason"] == "ContainerCreating"
    world.run(2)
    assert world.running() == ["web/app:0"]


def test_a_stop_that_fails_is_tried_again_but_not_in_a_loop(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    failures = [RuntimeFailure("busy", reason="KillContainerError")] * 3
    world.runtime.fail("stop", *failures)
    world.api.ask_to_delete("web")
    world.settle(passes=50)
    assert world.running() == ["web/app:0"]
    world.run(10)
    assert world.api.deleted == ["web"]
