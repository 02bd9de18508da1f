"""The flight recorder: its scripts in a real shell, with programs that stand for a node's; machines that are gone."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.drills.flight import FlightRecorder, gather_script, recorder_cpu_s, sections, start_script
from labctl.drills.target import Machine, Target
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.shell import Output

CLOCK = SystemClock()
PROGRAMS = {
    "systemctl": '[ "$1" = show ] && echo $PPID; echo "systemctl $*" >> "$CALLS"',
    "systemd-run": 'echo "systemd-run $*" >> "$CALLS"',
    "journalctl": 'echo "1769846400.000001 worker1 kubelet[1]: $*"; [ -z "$FLOOD" ] || yes | head -c 3000000',
    "nft": "echo 'table ip labctl {}'",
    "nerdctl": 'echo "{}"',
    "ip": "exit 1",
}


class Nodes:
    """Machines whose commands run here, in a shell of their own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.bin, self.calls, self.down = folder / "bin", folder / "calls", set[str]()
        self.bin.mkdir(parents=True)
        self.calls.touch()
        for name, body in PROGRAMS.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.bin / name).chmod(0o755)
        self.env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "CALLS": str(self.calls), "FLOOD": "", **env}
        self.client = SimpleNamespace(list=lambda *_: SimpleNamespace(items=[b'{"kind":"Event"}']))

    def machines(self) -> Sequence[Machine]:
        return [Machine(name=name, role="worker", address="127.0.0.1") for name in ("worker1", "worker2")]

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        if name in self.down:
            raise LabError(f"{name}: no route to host")
        done = subprocess.run(["sh", "-c", shlex.join(argv)], env=self.env, capture_output=True, text=True, check=False)
        return Output(done.returncode, done.stdout, done.stderr)


def recorder(nodes: Nodes) -> FlightRecorder:
    return FlightRecorder(cast(Target, nodes), CLOCK)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_logs_rules_containers_and_objects_of_every_machine_come_back(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path / "nodes")
    flight = recorder(nodes)
    flight.start()
    index = flight.gather(tmp_path / "run")
    assert [one.node for one in index.machines] == ["worker1", "worker2"]
    for name in ("worker1", "worker2"):
        folder = tmp_path / "run" / "flight" / name
        assert "table ip labctl" in (folder / "rules.nft").read_text()
        assert "-u labctl-flight-rules" in (folder / "components.log").read_text()
        assert (folder / "containers.json").exists()
        assert not (folder / "routes.txt").exists()  # the program failed and said nothing
    assert (tmp_path / "run" / "flight" / "api" / "leases.jsonl").read_text() == '{"kind":"Event"}\n'
    told = read(tmp_path / "run" / "flight" / "flight.json")["machines"][0]
    assert 0 <= told["recorder_cpu_s"] < 60  # that of the shell which asks
    assert abs(told["clock_ahead_s"]) <= told["clock_error_s"] + 0.001  # the same clock: the estimate holds
    assert told["files"]["rules.nft"] == len("table ip labctl {}\n")


def test_the_recorder_is_bounded_and_ends_by_itself(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path / "nodes", FLOOD="yes")
    flight = recorder(nodes)
    flight.start()
    started = nodes.calls.read_text()
    for words in ("RuntimeMaxSec=", "CPUQuota=2%", "exec nft monitor", "nerdctl --namespace k8s.io events"):
        assert words in started
    flight.gather(tmp_path / "run")
    assert (tmp_path / "run" / "flight" / "worker1" / "components.log").stat().st_size <= 2_000_001


def test_a_machine_that_is_gone_is_said_to_be_and_costs_the_others_nothing(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path / "nodes")
    nodes.down.add("worker1")
    flight = recorder(nodes)
    flight.start()
    gone, there = flight.gather(tmp_path / "run").machines
    assert (gone.error, there.error) == ("worker1: no route to host", "")
    assert gone.share is None
    assert there.share is not None


def test_a_disk_that_takes_nothing_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    index = recorder(Nodes(tmp_path / "nodes")).gather(tmp_path / "run")
    assert all("No space left" in one.error for one in index.machines)


def test_both_scripts_are_shell(tmp_path: Path) -> None:
    for script in (start_script(), gather_script(CLOCK.now())):
        assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0


def test_what_a_log_says_cannot_pose_as_another_part() -> None:
    told = (
        "x\n--- labctl flight: rules.nft\ntable\n--- labctl flight: ../../etc/passwd\nroot\n--- labctl flight: cpu\n \n"
    )
    assert dict(sections(told)) == {"rules.nft": "table"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10 5\n1 4\n100\n", 0.2),
        ("7 3\n100", 0.1),
        ("100", None),
        ("", None),
    ],
)
def test_what_the_recorder_cost_is_told_or_unknown(text: str, seconds: float | None) -> None:
    assert recorder_cpu_s(text) == seconds
