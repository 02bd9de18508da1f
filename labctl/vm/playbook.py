"""Runs Ansible on a lab's machines and reads what it does, line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.vm.hostkeys import known_hosts
from labctl.vm.provider import Progress, Site

_CONNECT_S = 30  # one TCP connection and key exchange
_CONNECTED_S = 120  # until an emulated machine that shares a core with five others has a session open


class Event(msgspec.Struct, frozen=True):
    """A line of playbooks/callback_plugins/labctl_lines.py."""

    event: str
    host: str = ""
    role: str = ""
    task: str = ""
    message: str = ""
    changed: bool = False
    changes: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What a run did, by machine name."""

    changed: Mapping[str, int]


def run(
    site: Site, playbooks: Path, inventory: Path, progress: Progress, *, deadline_s: float, names: Sequence[str] = ()
) -> Outcome:
    """Run `playbooks`/site.yml on `names` (none: on every machine).

    LabError quotes the first failure, and what Ansible itself said is in the log.
    """
    log = site.state_dir / "logs" / "provision.log"
    log.parent.mkdir(exist_ok=True, mode=0o700)
    # -m ansible: the one beside this Python, whatever is on PATH
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbooks / "site.yml")]
    argv += ["--limit", ",".join(names)] if names else []
    reading = Reading(progress)
    with tempfile.TemporaryDirectory(prefix="labctl-ansible-") as scratch, log.open("w", encoding="utf-8") as errors:
        (Path(scratch) / "ansible.cfg").touch()
        environment = {**os.environ, **settings(site, playbooks, Path(scratch))}
        with _process(argv, environment, errors) as process, _deadline(process, deadline_s) as overran:
            for line in process.stdout or ():
                reading.line(line)
            code = process.wait()
        _hang_up(Path(scratch))
    if overran.is_set():
        raise DeadlineExceeded(
            f"provisioning did not finish within {deadline_s:g} s; {reading.at or 'nothing was reached'}",
            hint=f"see {log}, then `labctl up` again: it goes on where it stopped",
        )
    return reading.outcome(code, log)


def settings(site: Site, playbooks: Path, scratch: Path) -> dict[str, str]:
    """Ansible's settings, as environment variables; no ansible.cfg of the user's or of this folder has a say."""
    ssh = (
        f"-o UserKnownHostsFile={known_hosts(site.state_dir)} -o GlobalKnownHostsFile=/dev/null -o LogLevel=ERROR "
        f"-o ConnectTimeout={_CONNECT_S} -o ServerAliveInterval=10 -o ServerAliveCountMax=6 -o IdentitiesOnly=yes "
        "-o StrictHostKeyChecking=yes -o BatchMode=yes -o ControlMaster=auto -o ControlPersist=60s"
    )
    return {
        "ANSIBLE_CONFIG": str(scratch / "ansible.cfg"),
        "ANSIBLE_HOME": str(scratch),
        "ANSIBLE_LOCAL_TEMP": str(scratch),
        "ANSIBLE_ACTION_PLUGINS": str(playbooks / "action_plugins"),
        "ANSIBLE_CALLBACK_PLUGINS": str(playbooks / "callback_plugins"),
        "ANSIBLE_STDOUT_CALLBACK": "labctl_lines",
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_FORKS": str(len(site.topology.machines)),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_SSH_ARGS": ssh,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(scratch),  # a socket's path is short
        "ANSIBLE_TIMEOUT": str(_CONNECTED_S),
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "PYTHONWARNINGS": "ignore",
    }


@contextlib.contextmanager
def _process(argv: list[str], environment: Mapping[str, str], errors: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """The program, in a process group of its own that ends with this context, and with us if we are killed."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _kill(process)
        process.wait()
        if process.stdout:
            process.stdout.close()


@contextlib.contextmanager
def _deadline(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kill the process after `seconds`; the event says that it came to that."""
    overran = threading.Event()

    def stop() -> None:
        overran.set()
        _kill(process)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield overran
    finally:
        timer.cancel()


def _hang_up(sockets: Path) -> None:
    """End the SSH connections that Ansible left open for a next task."""
    for path in sockets.iterdir():
        if path.is_socket():
            argv = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "unused"]
            subprocess.run(argv, capture_output=True, timeout=10, check=False)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Reading:
    """Makes progress, failures and a summary of the lines of playbooks/callback_plugins/labctl_lines.py."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._changed: dict[str, int] = {}
        self._failures: list[Event] = []
        self._rest: list[str] = []
        self.at = ""  # the last thing that began, in words

    def line(self, text: str) -> None:
        """Take one line of output."""
        try:
            event = msgspec.json.decode(text, type=Event)
        except msgspec.MsgspecError:
            self._rest.append(text.rstrip())
            return
        if event.event == "start":
            self.at = f"{event.host} was at {event.role}: {event.task}"
        elif event.event == "ok":
            self._changed[event.host] = self._changed.get(event.host, 0) + event.changed
            self._progress(event.host, f"{event.role}: {event.task}" + ("" if event.changed else " (unchanged)"))
        elif event.event in ("failed", "unreachable"):
            self._failures.append(event)

    def outcome(self, code: int, log: Path) -> Outcome:
        """What the run did; LabError where it failed."""
        if self._failures:
            first = self._failures[0]
            where = (
                f"{first.host}, role {first.role}, {first.task!r}" if first.role else f"{first.host}, {first.task!r}"
            )
            if first.event == "unreachable":
                raise LabError(
                    f"{first.host} could not be reached: {_one_line(first.message)}",
                    hint=f"is it up? `labctl status`; the whole story: {log}",
                )
            raise LabError(f"{where}: {_one_line(first.message)}", hint="`labctl up` again goes on where it stopped")
        if code != 0:
            words = [line for line in (*self._rest, *_lines(log)) if line.strip()]
            raise LabError(
                f"ansible-playbook exited with {code}: {words[-1] if words else 'no output'}",
                hint=f"the whole story: {log}",
            )
        return Outcome(self._changed)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
