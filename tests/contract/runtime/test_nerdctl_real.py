"""What nerdctl must do beyond the contract: limits, signals, mounts, and no trace left after any accident."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.kubelet.nerdctl_cli import base, pod_cgroup, run_arguments
from agents.kubelet.runtime import Limits, Mount, RuntimeFailure
from labctl.runtime.loop import wait_for
from tests.contract.runtime.conftest import World
from tests.contract.runtime.node import SLEEPER, Node


def output(world: World, *command: str, **more: Any) -> str:
    """What a container that runs `command` writes to its log."""
    spec = world.spec(world.pod(), *command, **more)
    world.ended(world.runtime.start(spec))
    return "".join(json.loads(line)["log"] for line in Path(spec.log_path).read_text().splitlines())


def test_logs_are_json_lines_of_both_streams(real: World) -> None:
    spec = real.spec(real.pod(), "sh", "-c", "echo out; echo err >&2")
    real.ended(real.runtime.start(spec))
    lines = [json.loads(line) for line in Path(spec.log_path).read_text().splitlines()]
    assert {(line["stream"], line["log"]) for line in lines} == {("stdout", "out\n"), ("stderr", "err\n")}
    assert all(line["time"].endswith("Z") for line in lines)


def test_a_command_replaces_entrypoint_and_command_of_the_image(real: World) -> None:
    assert output(real, "/bin/echo", image=SLEEPER) == "\n"
    assert output(real, image=SLEEPER) == "entry command\n"
    assert output(real, image=SLEEPER, args=("mine",)) == "entry mine\n"


def test_environment_mounts_and_identity_arrive_as_asked(real: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    tmp_path.chmod(0o755)
    script = (
        "cat /data/file; touch /data/x 2>/dev/null || echo ro; touch /x 2>/dev/null || echo root-ro; id -u; id -G; env"
    )
    text = output(
        real,
        *("sh", "-c", script),
        mounts=(Mount(str(tmp_path), "/data", read_only=True),),
        env={"TWO": "1\n2", "EQ": "a=b,c", "EMPTY": ""},
        user="1000:1000",
        groups=(2000,),
        read_only_root=True,
    )
    assert text.startswith("hello\nro\nroot-ro\n1000\n1000 2000\n")
    assert {"TWO=1", "2", "EQ=a=b,c", "EMPTY="} <= set(text.splitlines())


def test_the_pod_gives_its_containers_name_address_and_loopback(real: World) -> None:
    pod = real.pod()
    sandbox = real.runtime.make_sandbox(pod, host_network=False, host_ports=())
    spec = real.spec(pod, "sh", "-c", "hostname; ip -o -4 addr")
    real.ended(real.runtime.start(spec))
    text = Path(spec.log_path).read_text()
    assert pod.name in text
    assert f"{sandbox.address}/24" in text
    assert "127.0.0.1/8" in text


def test_limits_become_cgroup_settings(real: World) -> None:
    limits = Limits(cpu_request_milli=250, cpu_limit_milli=500, memory_limit_bytes=64 * 2**20, oom_score_adj=900)
    identity = real.runtime.start(real.spec(real.pod(), "sleep", "1000", limits=limits))
    status = real.status(identity)
    assert Path(f"/proc/{status.pid}/oom_score_adj").read_text().strip() == "900"
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{status.pid}/cgroup").read_text().splitlines())
    assert all(path.endswith(f"/pod{status.pod.uid}/{identity}") for path in groups.values())
    if real.runtime.cgroups.unified:  # type: ignore[attr-defined]
        folder = Path("/sys/fs/cgroup" + groups[""])
        assert (folder / "cpu.max").read_text().split() == ["50000", "100000"]
        assert (folder / "memory.max").read_text().strip() == str(64 * 2**20)
    else:
        assert Path("/sys/fs/cgroup/cpu" + groups["cpu"], "cpu.cfs_quota_us").read_text().strip() == "50000"
        assert Path("/sys/fs/cgroup/cpu" + groups["cpu"], "cpu.shares").read_text().strip() == "256"
        memory = Path("/sys/fs/cgroup/memory" + groups["memory"], "memory.limit_in_bytes")
        assert memory.read_text().strip() == str(64 * 2**20)


def test_a_container_that_eats_its_memory_is_known_as_oom_killed(real: World) -> None:
    limits = Limits(memory_limit_bytes=16 * 2**20)
    eater = ("sh", "-c", "exec tail /dev/zero")
    status = real.ended(real.runtime.start(real.spec(real.pod(), *eater, limits=limits)))
    assert (status.exit_code, status.oom_killed) == (137, True)


def test_the_images_own_stop_signal_is_used(real: World) -> None:
    script = "trap 'exit 7' USR1; trap 'exit 8' TERM; while :; do sleep 0.05; done"
    identity = real.runtime.start(real.spec(real.pod(), "sh", "-c", script, image=SLEEPER))
    real.runtime.exec(identity, ["true"], timeout_s=20)
    real.runtime.stop(identity, grace_s=20)
    assert real.ended(identity).exit_code == 7


def test_one_that_ignores_its_signal_is_killed_after_the_grace(real: World) -> None:
    identity = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))  # a first process without a handler
    began_s = real.clock.monotonic_s()
    real.runtime.stop(identity, grace_s=0.5)
    assert 0.5 <= real.clock.monotonic_s() - began_s < 10
    assert real.ended(identity).exit_code == 137


def test_exec_sees_the_containers_world_and_keeps_both_streams(real: World) -> None:
    spec = real.spec(real.pod(), "sleep", "1000", env={"COLOUR": "blue"}, user="1000:1000")
    identity = real.runtime.start(spec)
    found = real.runtime.exec(identity, ["sh", "-c", "echo $COLOUR; id -u; echo bad >&2"], timeout_s=20)
    assert (found.code, found.output) == (0, "blue\n1000\nbad\n")


def test_exec_of_what_is_not_there_is_no_success(real: World) -> None:
    identity = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
    found = real.runtime.exec(identity, ["/nope"], timeout_s=20)
    assert found.code == 127
    assert "no such file" in found.output


def test_an_exec_that_overruns_leaves_no_process_behind(real: World) -> None:
    identity = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
    assert real.runtime.exec(identity, ["sleep", "777"], timeout_s=1.0).code == 124
    group = f"{pod_cgroup(real.runtime.settings, real.status(identity).pod.uid)}/{identity}"  # type: ignore[attr-defined]
    only_first = lambda: len(real.runtime.cgroups.processes(group)) == 1  # type: ignore[attr-defined]  # noqa: E731
    wait_for(only_first, what="the command's end", deadline_s=10, clock=real.clock, every_s=0.02)


def test_a_command_that_cannot_be_run_leaves_no_container(real: World) -> None:
    spec = real.spec(real.pod(), "/nope")
    with pytest.raises(RuntimeFailure, match="/nope") as failure:
        real.runtime.start(spec)
    assert failure.value.reason == "RunContainerError"
    assert [status for status in real.again().containers() if status.pod == spec.pod] == []


def test_two_threads_that_start_one_container_make_one(real: World) -> None:
    spec = real.spec(real.pod(), "sleep", "1000")
    runtimes = [real.again(), real.again()]
    found: list[str] = []

    def start(runtime: int) -> None:
        found.append(runtimes[runtime].start(spec))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert len(set(found)) == 1
    assert len([status for status in real.again().containers() if status.pod == spec.pod]) == 1


@pytest.mark.parametrize("after_s", [0.01, 0.03, 0.05, 0.08, 0.12, 0.2])
def test_a_start_cut_short_anywhere_is_taken_up_again(real: World, tmp_path: Path, after_s: float) -> None:
    spec = real.spec(real.pod(), "sleep", "1000")
    settings = real.runtime.settings  # type: ignore[attr-defined]
    files = {"pid_file": str(tmp_path / "pid"), "id_file": str(tmp_path / "id")}
    Path(spec.log_path).parent.mkdir(parents=True, exist_ok=True)
    argv = [*base(settings), *run_arguments(spec, settings, image_id="sha256:x", **files)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    real.clock.sleep_s(after_s)
    process.kill()
    process.wait(timeout=10)
    identity = real.again().start(spec)
    mine = [status for status in real.again().containers() if status.pod == spec.pod]
    assert [(status.id, status.phase) for status in mine] == [(identity, "running")]


def test_containers_outlive_containerd_and_are_ours_again_afterwards(real: World, real_node: Node) -> None:
    staying = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
    leaving = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
    pid = real.status(staying).pid
    real_node.kill()
    try:
        with pytest.raises(RuntimeFailure) as failure:
            real.runtime.version()
        assert failure.value.retryable
        assert real.status(staying).phase == "running"
        with pytest.raises(RuntimeFailure):
            real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
        real.runtime.stop(leaving, grace_s=0)
        with pytest.raises(RuntimeFailure):
            real.runtime.containers()
    finally:
        real_node.start()
    assert real.ended(leaving).exit_code in {137, 255}
    assert (real.status(staying).phase, real.status(staying).pid) == ("running", pid)
    assert real.runtime.version().startswith("containerd://")
    assert [status.pid for status in real.again().containers() if status.id == staying] == [pid]


def test_after_a_power_cut_what_ran_has_ended_and_starts_again(real: World, real_node: Node) -> None:
    pod = real.pod()
    identity = real.runtime.start(real.spec(pod, "sleep", "1000"))
    real_node.lose_power()
    real_node.start()
    fresh = World(real_node.runtime(), real.folder, real_node.runtime)
    status = fresh.status(identity)
    assert (status.phase, status.exit_code, status.pod) == ("exited", 255, pod)
    assert status.started_s > 0
    assert fresh.runtime.sandboxes() == []
    again = fresh.runtime.start(fresh.spec(pod, "sleep", "1000", attempt=1))
    assert fresh.status(again).phase == "running"
    fresh.clean([pod])  # the runtime of before the power cut knows nothing of it


def test_a_process_killed_from_outside_is_seen_at_once(real: World) -> None:
    identity = real.runtime.start(real.spec(real.pod(), "sleep", "1000"))
    pid = real.status(identity).pid
    timer = threading.Timer(0.2, lambda: os.kill(pid, signal.SIGKILL))
    timer.start()
    assert real.runtime.wait_exit({identity: pid}, timeout_s=20)
    assert real.ended(identity).exit_code == 137
    timer.join()


def test_nothing_is_left_of_removed_pods(real: World, real_node: Node) -> None:
    pods = [real.pod() for _ in range(3)]
    specs = [real.spec(pod, "sh", "-c", "echo hi; exec sleep 1000") for pod in pods]
    for spec in specs:
        real.runtime.start(spec)
    real.clean(pods)
    nothing = lambda: not real_node.leftovers()  # noqa: E731
    wait_for(nothing, what=f"an end of {real_node.leftovers()}", deadline_s=10, clock=real.clock, every_s=0.05)
    assert not [spec.log_path for spec in specs if Path(spec.log_path).exists()]
    assert real.runtime.containers() == []


def test_the_host_network_is_the_hosts(real: World) -> None:
    pod = real.pod()
    sandbox = real.runtime.make_sandbox(pod, host_network=True, host_ports=())
    spec = replace(real.spec(real.pod(), "sh", "-c", "ls /sys/class/net"), pod=pod, sandbox=sandbox, hostname="")
    real.ended(real.runtime.start(spec))
    seen = {json.loads(line)["log"].strip() for line in Path(spec.log_path).read_text().splitlines()}
    assert set(os.listdir("/sys/class/net")) <= seen | {""}
