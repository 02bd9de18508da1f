"""labctl killed, interrupted and started twice in the middle of its work: what it leaves is gone on from, or undone."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.runtime.clock import SystemClock
from tests.labs import LABCTL, LabUser, eventually, is_ready

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(900)]

CLOCK = SystemClock()
KILLS = 8
SEED = 1


@pytest.fixture
def user(tmp_path: Path) -> Iterator[LabUser]:
    someone = LabUser(tmp_path, "t-cut", "lxc")
    try:
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def starts(user: LabUser, *args: str) -> subprocess.Popen[str]:
    """labctl, on its way, in a process group of its own as a shell would start it.

    It hears Ctrl-C even where these tests run behind a shell's `&`, which has its children ignore it.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["env", "--default-signal=INT", LABCTL, *args],
        cwd=user.home,
        env=user.env,
        stdout=pipe,
        stderr=pipe,
        text=True,
        process_group=0,
    )


def working_for(user: LabUser) -> list[int]:
    """Processes that labctl's programs have left at work on this lab on the host: none may outlive it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes()
            if str(user.home).encode() in words and b"ansible" in words:
                found.append(int(path.name))
    return found


def remains(user: LabUser) -> list[str]:
    """What a lab has on this host: devices, mounts, processes with its name."""
    devices = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/mounts").read_text().splitlines()
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in devices + mounts + tables if user.name in line]


def test_up_killed_at_random_moments_is_finished_by_the_next_one(user: LabUser) -> None:
    moments = random.Random(SEED)
    began_s = CLOCK.monotonic_s()
    user.up()
    whole_s = CLOCK.monotonic_s() - began_s
    user.labctl("destroy")
    killed = 0
    for _ in range(KILLS):
        begun = starts(user, "up", "--provider", "lxc")
        with contextlib.suppress(subprocess.TimeoutExpired):
            begun.wait(timeout=moments.uniform(0.0, whole_s))
        if begun.poll() is None:
            killed += 1
            begun.kill()
        begun.communicate(timeout=30)
        eventually(lambda: not working_for(user), "Ansible to end with labctl")
        if begun.returncode == 0:  # it was done: begin again from nothing
            user.labctl("destroy")
    assert killed >= KILLS / 4
    user.up()
    user.deploy_web()
    assert sum(is_ready(pod) for pod in user.pods()) == 3
    user.labctl("destroy")
    assert remains(user) == []


def test_ctrl_c_in_the_middle_says_how_to_go_on_and_destroy_leaves_nothing(user: LabUser) -> None:
    begun = starts(user, "up", "--provider", "lxc")
    eventually((user.home / ".labctl" / user.name / "topology.json").exists, "the first phase")
    os.killpg(begun.pid, signal.SIGINT)  # as the terminal does: to labctl and to all it has started
    _, told = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "goes on where it stopped" in told
    assert "Traceback" not in told
    user.labctl("destroy")
    assert remains(user) == []


def test_destroy_killed_half_way_is_finished_by_the_next_one(user: LabUser) -> None:
    user.up()
    begun = starts(user, "destroy")
    with contextlib.suppress(subprocess.TimeoutExpired):
        begun.wait(timeout=0.5)
    begun.kill()
    begun.communicate(timeout=30)
    user.labctl("destroy", "--if-exists")
    assert remains(user) == []


def test_a_second_up_at_the_same_time_is_told_who_is_at_work(user: LabUser) -> None:
    begun = starts(user, "up", "--provider", "lxc")
    try:
        lock = user.home / ".labctl" / user.name / "lock"
        eventually(lambda: lock.exists() and lock.read_text(), "the first to begin")
        second = user.labctl("up", "--provider", "lxc", code=1)
        assert f"process {begun.pid}" in second.stderr
    finally:
        out, told = begun.communicate(timeout=300)
    assert begun.returncode == 0, out + told


def test_a_network_that_is_taken_is_refused_before_anything_is_made(user: LabUser) -> None:
    taken = "172.31.253.0/24"
    subprocess.run(["ip", "link", "add", "t-cut-taken", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "172.31.253.1/24", "dev", "t-cut-taken"], check=True)
        (user.home / "lab.yaml").write_text(f"provider: lxc\nnetwork: {taken}\n")
        refused = user.labctl("up", code=2)
    finally:
        subprocess.run(["ip", "link", "delete", "t-cut-taken"], check=True)
    assert taken in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (user.home / ".labctl").exists()
