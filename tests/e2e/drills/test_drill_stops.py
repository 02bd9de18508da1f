"""A drill that is told to stop stops, whatever hangs: its machines, its API, its heal; and what it leaves is undone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labctl.drills import history, undo
from labctl.drills.records import HealEnded, Interrupted
from tests.e2e.drills.quickly import wait_unlocked

_RUNNER = """
import faulthandler
import sys
import threading
faulthandler.dump_traceback_later(90, exit=True)
sys.path.insert(0, {root!r})
from pathlib import Path
from labctl.drills import progress
from labctl.drills.records import PhaseBegan
from labctl.drills.ui import Silent
from tests.unit.labctl.drills.drill_fakes import FakeLab
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.runner import run
from tests.e2e.drills.quickly import QUICK

progress.CONVERGE_S = progress.COLLECT_S = progress.CLEAN_UP_S = progress.FLIGHT_S = 0.5
lab = FakeLab(Path({folder!r}))

def hang(*_, **__):
    threading.Event().wait(3_600)

class Loud(Silent):
    def show(self, entries):
        for entry in entries:
            if isinstance(entry.what, PhaseBegan):
                {what_hangs}
                print("entered", entry.what.name, flush=True)

    def say(self, text):
        print("said", text, flush=True)

print("verdict", run(DRILL, lab, QUICK, Loud()).verdict, flush=True)
"""
_MACHINES_AND_API = 'if entry.what.name == "converge": lab.run = lab.api.delete = hang'
_POWER = "lab.power_on = hang"


class Runner:
    """A drill in a process of its own."""

    def __init__(self, folder: Path, what_hangs: str) -> None:
        script = _RUNNER.format(root=str(Path(__file__).parents[3]), folder=str(folder), what_hangs=what_hangs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._watchdog = threading.Timer(120.0, self.process.kill)
        self._watchdog.start()

    def until(self, start: str) -> str:
        """The first line that begins so; everything the process said where it ends before."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith(start):
                return line
        pytest.fail(f"ended without {start!r}: {''.join(lines)}")

    def end(self) -> tuple[int, str, str]:
        """Exit code, and what is left of both streams."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return self.code(), out, err

    def code(self) -> int:
        """Its exit code, once it has ended."""
        found = self.process.wait()
        self._watchdog.cancel()
        return found


def left(folder: Path) -> dict[str, str]:
    wait_unlocked(folder)
    assert undo.load(folder) is None
    power: dict[str, str] = json.loads((folder / "power.json").read_text())
    return power


def test_sigterm_ends_a_drill_whose_machines_and_api_hang_and_its_dead_man_does_the_rest(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "drills", _MACHINES_AND_API)
    runner.until("entered converge")
    runner.process.send_signal(signal.SIGTERM)
    assert "what the drill deployed is removed, within" in runner.until("said stopping")
    code, out, err = runner.end()
    assert (code, "verdict unknown" in out) == (0, True), (out, err)
    assert "A process of its own goes on with it" in out
    assert set(left(tmp_path / "drills").values()) == {"running"}
    assert "configmaps default/labctl-drill-writes" in (tmp_path / "drills/deleted").read_text()
    told = history.load(next((tmp_path / "drills").glob("2*")) / history.NAME)
    assert next(one.why for _, one in told.of(Interrupted)) == "Ctrl-C"


def test_a_drill_whose_heal_was_interrupted_does_not_wait_for_machines_that_hang_afterwards(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "drills", _MACHINES_AND_API)
    runner.until("entered observe")
    runner.process.send_signal(signal.SIGTERM)
    code, out, err = runner.end()
    assert (code, "verdict unknown" in out) == (0, True), (out, err)
    assert left(tmp_path / "drills")["worker1"] == "running"


def test_a_second_signal_leaves_at_once_with_the_undo_armed(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "drills", _POWER)
    runner.until("entered observe")
    runner.process.send_signal(signal.SIGTERM)
    assert "the lab is healed first, within" in (said := runner.until("said stopping"))
    assert "power worker1 on" in said
    runner.until("entered heal")
    while runner.process.poll() is None:  # one that comes right after the first counts as the same
        runner.process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.4)
    code, _, err = runner.end()
    assert code == 128 + signal.SIGTERM
    assert "left at once: a process of its own undoes the rest (power worker1 on" in err
    assert left(tmp_path / "drills")["worker1"] == "running"
    run_dir = next((tmp_path / "drills").glob("2*"))
    healed = [one for _, one in history.load(run_dir / history.NAME).of(HealEnded)]
    assert [one.ok for one in healed] == [True]
    assert json.loads((run_dir / "report.json").read_text())["verdict"] == "unknown"


def test_a_drill_that_nobody_reads_heals_and_ends(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "drills", "pass")
    runner.until("entered observe")
    assert runner.process.stdout is not None
    runner.process.stdout.close()
    runner.code()
    assert left(tmp_path / "drills")["worker1"] == "running"
    told = history.load(next((tmp_path / "drills").glob("2*")) / history.NAME)
    assert [one.ok for _, one in told.of(HealEnded)] == [True]
    assert next(one.why for _, one in told.of(Interrupted)) == "nobody reads what it says"
