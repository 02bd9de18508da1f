"""The dead-man: a process of its own on the host that heals if the runner dies or hangs.

It is started before anything is done to the lab, holds the drills' lock together with the runner, and waits for one
of five things: the runner says `done`; it leaves the rest to us; its process ends; the pipe to it closes; the time
given to the drill is over. On all but the first it undoes whatever is pending on disk. It survives Ctrl-C and a closed
terminal, since it has a session of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from labctl.drills import undo
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError

_ARMED = b"armed\n"
_DONE = b"done\n"
_REST = b"rest\n"
_HEAL_S = 300.0
_LOOK_MS = 500


class DeadMan:
    """The runner's end: starts the process, waits until it stands by, dismisses it."""

    def __init__(self, folder: Path, lock_fd: int) -> None:
        self._folder, self._lock_fd = folder, lock_fd
        self._process: subprocess.Popen[bytes] | None = None

    def arm(self, deadline_s: float = 20.0) -> None:
        """Return once it stands by; LabError where it does not: no fault may be injected then."""
        log = os.open(self._folder / "dead-man.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._folder), str(os.getpid()), str(self._lock_fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=(self._lock_fd,),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
            )
        finally:
            os.close(log)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], deadline_s)
        if not ready or os.read(self._process.stdout.fileno(), 64) != _ARMED:
            self._process.kill()
            raise LabError(
                "the process that would heal the lab if this one died did not start",
                hint=f"see {self._folder / 'dead-man.log'}",
            )

    @property
    def alive(self) -> bool:
        """Whether it still stands by."""
        return self._process is not None and self._process.poll() is None

    def dismiss(self, deadline_s: float = 10.0) -> None:
        """Tell it that all is undone, and wait for its end."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.write(_DONE)
            process.stdin.close()
        try:
            process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def take_over(self) -> None:
        """Leave what is pending to it: it goes on by itself, and holds the lock until it is through."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.write(_REST)
                self._process.stdin.close()


def stand_by(folder: Path, runner_pid: int) -> str:
    """Wait as the module says; why to heal, or "" where the runner is done."""
    try:
        runner = os.pidfd_open(runner_pid)
    except OSError:
        return "the runner died"
    if os.getppid() != runner_pid:  # it died before we had a handle on it, and its number may be another's
        return "the runner died"
    os.write(sys.stdout.fileno(), _ARMED)
    clock = SystemClock()
    poll = select.poll()
    poll.register(runner, select.POLLIN)
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    while True:
        ready = {file for file, _ in poll.poll(_LOOK_MS)}
        if sys.stdin.fileno() in ready:
            return {_DONE: "", _REST: "Ctrl-C"}.get(os.read(sys.stdin.fileno(), 64), "the runner died")
        if runner in ready:
            return "the runner died"
        with contextlib.suppress(LabError):
            pending = undo.load(folder)
            if pending is not None and clock.monotonic_s() > pending.heal_by_s:
                return "the drill's time is over and its runner does not heal"


def main(argv: list[str]) -> int:
    """`FOLDER RUNNER_PID LOCK_FD`; 0 when there was nothing to heal or all was healed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    folder = Path(argv[0])
    why = stand_by(folder, int(argv[1]))
    if not why:
        return 0
    # Imported only now: a process that waits should be small.
    from labctl.drills import lock  # noqa: PLC0415
    from labctl.drills.recovery import recover  # noqa: PLC0415

    lock.name(int(argv[2]), f"process {os.getpid()} undoes what it left, for at most {_HEAL_S:g} s")

    try:
        said = recover(folder, SystemClock(), by="dead-man", why=why, deadline_s=_HEAL_S)
    except LabError as error:
        print(json.dumps({"healed": False, "error": str(error)}), file=sys.stderr, flush=True)
        return 1
    print(json.dumps({"healed": said.ok, "why": why, "said": said.sentences}), file=sys.stderr, flush=True)
    return 0 if said.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
