"""The faults' pure parts, and what they say when a machine does not do as it is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labctl.drills.actions import Inside
from labctl.drills.choose import busiest, no_worker
from labctl.drills.faults import Lift, Pause, Together, heals_of
from labctl.drills.faults_host import Slow, StepClock
from labctl.drills.faults_network import Cut, rules
from labctl.drills.faults_process import Freeze, Kill, StopUnit
from labctl.drills.model import Facts
from labctl.drills.registry import catalog
from labctl.drills.target import Target
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.shell import Output
from labctl.vm.provider import Power
from tests.unit.labctl.drills.drill_tales import pod

MASTER = (("master1", ("10.0.0.10",)),)


@dataclass
class Ticking:
    """A clock that moves when somebody sleeps."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep_s(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Machines:
    """Answers every command with the same words, and notes them."""

    stdout: str = ""
    code: int = 0
    slowness: float = 1.0
    ran: list[tuple[str, str]] = field(default_factory=list)
    off: set[str] = field(default_factory=set)

    def unit(self, component: str) -> str:
        return f"labctl-{component}.service"

    def power(self, name: str) -> Power:
        return Power.OFF if name in self.off else Power.RUNNING

    def power_on(self, name: str) -> None:
        self.off.discard(name)

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return name not in self.off

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        assert name not in self.off
        self.ran.append((name, argv[-1]))
        return Output(self.code, self.stdout, "no such unit" if self.code else "")


def target(machines: Machines) -> Target:
    return machines  # type: ignore[return-value]


def test_a_cut_drops_both_ways_by_every_address() -> None:
    text = rules(Cut(node="worker1", peers=(*MASTER, ("worker2", ("10.0.0.21", "10.244.1.0/24")))))
    assert "ip daddr { 10.0.0.10, 10.0.0.21, 10.244.1.0/24 } counter drop" in text
    assert "ip saddr { 10.0.0.10, 10.0.0.21, 10.244.1.0/24 } counter drop" in text
    assert text.count("{") == text.count("}")


def test_a_one_way_cut_leaves_the_other_way_alone() -> None:
    text = rules(Cut(node="worker1", peers=MASTER, port=6443))
    assert "ip daddr { 10.0.0.10 } tcp dport 6443 counter drop" in text
    assert "saddr" not in text


def test_two_cuts_of_a_node_have_tables_of_their_own() -> None:
    whole, half = Cut(node="worker1", peers=MASTER), Cut(node="worker1", peers=MASTER, port=6443)
    assert whole.table != half.table
    [heal] = whole.heals(target(Machines()))
    assert isinstance(heal, Inside)
    assert whole.table in heal.script
    assert half.table not in heal.script


@pytest.mark.parametrize("kind", [Freeze, Kill, StopUnit])
def test_a_fault_of_a_process_that_cannot_be_seen_did_not_take(kind: type[Freeze | Kill | StopUnit]) -> None:
    fault = kind(node="worker1", component="kubelet")
    clock = Ticking()
    assert fault.took(target(Machines(stdout="yes")), clock)[0] is True  # type: ignore[arg-type]
    took, evidence = fault.took(target(Machines(stdout="")), clock)  # type: ignore[arg-type]
    assert not took
    assert "kubelet of worker1" in evidence


@pytest.mark.parametrize("kind", [Freeze, Kill, StopUnit])
def test_a_fault_of_a_process_names_the_unit_and_its_undo_too(kind: type[Freeze | Kill | StopUnit]) -> None:
    machines = Machines()
    fault = kind(node="worker1", component="kubelet")
    fault.inject(target(machines))
    assert "labctl-kubelet.service" in machines.ran[0][1]
    [heal] = fault.heals(target(machines))
    assert isinstance(heal, Inside)
    assert "labctl-kubelet.service" in heal.script
    assert "{" not in heal.script.replace("${", "")


def test_a_machine_that_was_fenced_meanwhile_is_powered_on_for_its_undo() -> None:
    machines = Machines()
    [heal] = Freeze(node="worker1", component="kubelet").heals(target(machines))
    machines.off = {"worker1"}
    heal.apply(target(machines), Ticking())  # type: ignore[arg-type]
    assert [name for name, _ in machines.ran] == ["worker1"]


def test_an_injection_that_fails_says_why() -> None:
    with pytest.raises(LabError, match="no such unit"):
        StopUnit(node="worker1", component="kubelet").inject(target(Machines(code=5)))


def test_faults_at_once_are_undone_each() -> None:
    both = Together((Freeze(node="worker1", component="kubelet"), Freeze(node="worker2", component="kubelet")))
    assert both.nodes == ("worker1", "worker2")
    steps = (both, Pause(3.0), Lift(both))
    assert [action.text for action in heals_of(steps, target(Machines()))] == [
        "thaw the kubelet of worker1", "thaw the kubelet of worker2",
    ]  # fmt: skip


def test_faults_at_once_took_only_where_each_did() -> None:
    both = Together((Kill(node="worker1", component="etcd"), Kill(node="worker2", component="etcd")))
    assert both.took(target(Machines(stdout="yes")), Ticking())[0]  # type: ignore[arg-type]
    assert not both.took(target(Machines(stdout="")), Ticking())[0]  # type: ignore[arg-type]


def facts(*nodes: str) -> Facts:
    pods = tuple(pod(name, node) for name, node in (("web-a", "w1"), ("web-b", "w1"), ("web-c", "w2")))
    return Facts(nodes, pods, ("m1",))


def test_the_busiest_workers_are_struck_unless_others_are_asked_for() -> None:
    assert busiest(1)(facts("w1", "w2", "w3"), ()) == ("w1",)
    assert busiest(2)(facts("w1", "w2", "w3"), ()) == ("w1", "w2")
    assert busiest(1)(facts("w1", "w2", "w3"), ("w3",)) == ("w3",)


def test_too_few_workers_or_the_wrong_ones_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 3 workers"):
        busiest(2)(facts("w1", "w2"), ())
    with pytest.raises(UsageError, match="no node 'w9'"):
        busiest(1)(facts("w1", "w2"), ("w9",))
    with pytest.raises(UsageError, match="strikes 1 of the nodes, not 2"):
        busiest(1)(facts("w1", "w2", "w3"), ("w1", "w2"))
    with pytest.raises(UsageError, match="strikes no worker"):
        no_worker(facts("w1"), ("w1",))


def test_every_drill_says_what_it_shows_and_does() -> None:
    for name, drill in catalog().items():
        assert drill.name == name
        assert drill.title
        assert len(drill.shows) > 80
        assert len(drill.steps) >= 4
        assert {"A", "B", "C", "D", "E", "F"} <= set(drill.checkers)


def test_a_slow_network_says_where_only_loss_was_to_be_had() -> None:
    slow = Slow(node="worker1")
    netem = "netem 8001: root limit 1000 delay 80ms"
    assert slow.took(target(Machines(stdout=netem)), Ticking()) == (True, f"worker1: {netem}")  # type: ignore[arg-type]
    alone = slow.took(target(Machines(stdout="numgen random mod 100 < 3 drop")), Ticking())  # type: ignore[arg-type]
    assert alone[0]
    assert "the kernel has no netem" in alone[1]
    assert slow.took(target(Machines(code=1)), Ticking())[0] is False  # type: ignore[arg-type]


def test_a_clock_is_set_right_by_the_uptime_and_only_once() -> None:
    step = StepClock(node="worker1", seconds=86_400)
    assert step.took(target(Machines(stdout="86401")), Ticking())[0]  # type: ignore[arg-type]
    assert not step.took(target(Machines(stdout="0")), Ticking())[0]  # type: ignore[arg-type]
    [heal] = step.heals(target(Machines()))
    assert isinstance(heal, Inside)
    folder = "/run/labctl-drill-clock"
    assert heal.script.startswith(f"test -e {folder} || exit 0;")
    assert f"rm -f {folder}" in heal.script


def test_the_scripts_of_faults_are_ones_that_a_shell_can_read() -> None:
    machines = Machines()
    steps = (
        Slow(node="w"), StepClock(node="w", seconds=-120), Cut(node="w", peers=MASTER),
        *(kind(node="w", component="etcd") for kind in (Freeze, Kill, StopUnit)),
    )  # fmt: skip
    for step in steps:
        step.inject(target(machines))
    scripts = [script for _, script in machines.ran]
    scripts += [heal.script for heal in heals_of(steps, target(machines)) if isinstance(heal, Inside)]
    assert len(scripts) == 12
    for script in scripts:
        checked = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, (script, checked.stderr)


@dataclass
class Shell(Machines):
    """Runs each command here, with programs of its own first on the path."""

    programs: Path = Path()

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        env = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=timeout_s)
        return Output(done.returncode, done.stdout, done.stderr)


def test_a_stepped_clock_comes_back_to_the_right_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very scripts, with a `date` whose clock is a file: how far it is off."""
    off = tmp_path / "off"
    off.write_text("0")
    scripts = {
        "date": f'off=$(cat {off}); now=$(($(/bin/date +%s) + off)); case "$1" in +%s) echo $now;; '
        f"-s) want=${{2#@}}; echo $((want - now + off)) > {off};; esac",
        "systemctl": "exit 0",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("labctl.drills.faults_host._STAMP", str(tmp_path / "stamp"))
    machine = target(Shell(programs=tmp_path))
    for seconds in (-120, 86_400):
        step = StepClock(node="worker1", seconds=seconds)
        step.inject(machine)
        took, evidence = step.took(machine, Ticking())  # type: ignore[arg-type]
        assert took, evidence
        [heal] = step.heals(machine)
        for _ in range(2):
            heal.apply(machine, Ticking())  # type: ignore[arg-type]
            assert abs(int(off.read_text())) <= 1
