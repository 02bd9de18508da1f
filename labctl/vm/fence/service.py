"""Starting and ending the fence agent's process. Who holds the lock of <state_dir>/fence/pid is the agent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from labctl.runtime.errors import LabError
from labctl.vm.fence import READY

_START_S = 60.0
_STOP_S = 5.0


def start(state_dir: Path, cache_dir: Path) -> None:
    """Start the agent afresh, with the code and certificates of now; LabError where it does not come up."""
    stop(state_dir)
    folder = state_dir.resolve() / "fence"
    folder.mkdir(exist_ok=True, mode=0o700)
    log = os.open(folder / "agent.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "labctl.vm.fence.agent", str(state_dir.resolve()), str(cache_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        )
    finally:
        os.close(log)
    assert process.stdout is not None
    with process.stdout:
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        if not ready or os.read(process.stdout.fileno(), 64) != READY:
            process.kill()
            process.wait()
            raise LabError("the fence agent did not start", hint=f"{folder / 'agent.log'} says why")


def running(state_dir: Path) -> int:
    """The agent's process id; 0 where there is none."""
    try:
        with open(state_dir / "fence" / "pid", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
    except (OSError, ValueError):
        pass
    return 0


def stop(state_dir: Path) -> None:
    """End the agent where one runs; by force after some seconds."""
    pid = running(state_dir)
    if not pid:
        return
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if running(state_dir) != pid:  # it ended, and its number may be another's
                return
            for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], patience_s)[0]:
                    return
        finally:
            os.close(handle)
