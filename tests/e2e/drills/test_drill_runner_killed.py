"""The runner killed, or hanging: its dead-man heals the lab and writes the report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from labctl.drills import history, undo
from labctl.drills.records import HealEnded, Interrupted, PhaseBegan
from labctl.runtime.loop import wait_for
from tests.e2e.drills.quickly import CLOCK, wait_unlocked

_RUNNER = """
import sys
import threading
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.labctl.drills.drill_fakes import FakeLab
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.runner import run
from tests.e2e.drills.quickly import QUICK, At
from labctl.drills import report
from labctl.drills.records import PhaseBegan

write = report.write

def slowly(*what):
    print("report", flush=True)
    threading.Event().wait(1.0)
    return write(*what)

report.write = slowly

class Loud(At):
    def show(self, entries):
        for entry in entries:
            if isinstance(entry.what, PhaseBegan):
                print(entry.what.name, flush=True)

print("verdict", run(DRILL, FakeLab(Path({folder!r})), QUICK, Loud("", None)).verdict, flush=True)
"""


def start_runner(folder: Path) -> subprocess.Popen[str]:
    script = _RUNNER.format(root=str(Path(__file__).parents[4]), folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)


PHASES = ("prepare", "steady", "arm", "fault", "observe", "heal", "converge", "judge", "clean-up", "report")


def kill_at(phase: str, folder: Path) -> Path:
    """Start a runner, kill -9 it as it enters `phase`, wait for its dead-man; the lab's folder."""
    runner = start_runner(folder)
    assert runner.stdout is not None
    reached = any(line.strip() == phase for line in runner.stdout)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert reached, f"the runner never reached {phase}"
    wait_unlocked(folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """A lab for each phase, its runner killed there; all at once, since they mostly wait."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield {phase: pool.submit(kill_at, phase, tmp_path_factory.mktemp(phase) / "drills") for phase in PHASES}


@pytest.mark.parametrize("phase", PHASES)
def test_a_runner_killed_at_any_phase_leaves_a_healed_lab(killed: dict[str, Future[Path]], phase: str) -> None:
    folder = killed[phase].result(timeout=60)
    assert json.loads((folder / "power.json").read_text())["worker1"] == "running"
    assert undo.load(folder) is None
    assert not list(folder.glob(".undo.json.*"))
    told = history.load(next(folder.glob("2*")) / history.NAME)
    entered = [began.name for _, began in told.of(PhaseBegan)]  # the last of PHASES begins when all others are over
    through = [name for name in PHASES[: PHASES.index(phase) + 1] if name != "report"]
    assert entered[: len(through)] == through
    if phase in {"observe", "heal", "converge"}:
        run_dir = next(folder.glob("2*"))
        told = history.load(run_dir / history.NAME)
        assert told.first(Interrupted) is not None
        assert told.last(HealEnded) is not None
        written = json.loads((run_dir / "report.json").read_text())
        assert written["verdict"] == "unknown"
        assert "interrupted: the runner died" in written["reasons"]


def test_a_runner_that_hangs_past_its_time_is_healed_over_its_head(tmp_path: Path) -> None:
    folder = tmp_path / "drills"
    runner = start_runner(folder)
    assert runner.stdout is not None
    for line in runner.stdout:
        if line.strip() == "observe":
            break
    runner.send_signal(signal.SIGSTOP)
    pending = undo.load(folder)
    assert pending is not None
    assert json.loads((folder / "power.json").read_text())["worker1"] == "off"
    undo.save(folder, msgspec.structs.replace(pending, heal_by_s=0.0))
    wait_for(
        lambda: json.loads((folder / "power.json").read_text())["worker1"] == "running",
        what="the dead-man to heal",
        deadline_s=10.0,
        clock=CLOCK,
    )
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_unlocked(folder)
