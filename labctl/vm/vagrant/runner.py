"""Vagrant, through python-vagrant: with a deadline, its words kept in a log, and never outliving us."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import vagrant

from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.vm.provider import Progress, Site
from labctl.vm.vagrant.site import dotfile

_INTERRUPT_S = 5.0
_SAID = re.compile(r"^==> (?P<name>[\w.-]+): (?P<text>.*)")
_TRACE = re.compile(r"\s*(from )?/\S+:\d+:in ")  # a line of Ruby's traceback: the one before it says why
# What is worth telling of all that Vagrant says; the rest is in the log.
_TOLD = {
    "Creating domain with the following settings...": "creating",
    "Starting domain.": "starting",
    "Waiting for machine to boot. This may take a few minutes...": "booting",
}


class Runner(vagrant.Vagrant):
    """Vagrant over one lab's Vagrantfile. python-vagrant knows the commands; how they run is ours."""

    def __init__(self, site: Site, project_root: Path, timeout_s: float) -> None:
        self._log = site.state_dir / "logs" / "vagrant.log"
        self._timeout_s = timeout_s
        if not (project_root / "Vagrantfile").exists():
            raise LabError(
                f"{project_root} holds no Vagrantfile", hint="run labctl from a clone of it (pip install -e .)"
            )
        environment = _environment(site, project_root)
        super().__init__(root=str(project_root), env=environment)  # type: ignore[no-untyped-call]

    def make(self, names: Sequence[str], progress: Progress) -> None:
        """Make and start the machines `names`, in parallel; return when Vagrant got in by ssh."""
        chosen = f"/^({'|'.join(map(re.escape, names))})$/"
        lines = self.up(vm_name=chosen, no_provision=True, stream_output=True)  # type: ignore[no-untyped-call]
        with contextlib.closing(lines):  # on every way out, so that an interrupted `up` takes Vagrant with it
            for line in lines:
                said = _SAID.match(line.strip())
                if said and (told := _TOLD.get(said["text"])):
                    progress(said["name"], told)

    def remove(self) -> None:
        """Remove whatever Vagrant knows of the lab."""
        self.destroy()  # type: ignore[no-untyped-call]

    # python-vagrant runs everything through these three.

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        for _ in self._stream_vagrant_command(args):
            pass

    def _run_vagrant_command(self, args: Sequence[str | None]) -> str:
        return "".join(self._stream_vagrant_command(args))

    def _stream_vagrant_command(self, args: Sequence[str | None]) -> Iterator[str]:
        self._log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ours: list[str] = self._make_vagrant_command(args)  # type: ignore[no-untyped-call]
        command = [*_dying_with_us(), *ours]
        last = ""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            with _Process(command, self.root, self.env, self._timeout_s) as process:
                for line in process.lines():
                    log.write(line)
                    last = line.strip() if line.strip() and not _TRACE.match(line) else last
                    yield line
        if process.overran:
            raise DeadlineExceeded(f"vagrant did not finish within {self._timeout_s:g} s; its words are in {self._log}")
        if process.code != 0:
            raise LabError(f"vagrant exited with {process.code}: {last}", hint=f"all it said is in {self._log}")


class _Process:
    """A program in a process group of its own, ended on every way out."""

    def __init__(self, command: Sequence[str], folder: str, env: dict[str, str], timeout_s: float) -> None:
        self._command, self._folder, self._env = command, folder, env
        self._timer = threading.Timer(timeout_s, self._overrun)
        self.overran = False
        self.code = 0

    def __enter__(self) -> _Process:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches us alone; we end it in order
        )
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self._signal(signal.SIGINT)  # Vagrant then removes a machine that is half made
            try:
                self._process.wait(_INTERRUPT_S)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self.code = self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def lines(self) -> Iterator[str]:
        """What the program says, until it has nothing more to say; then it has ended."""
        assert self._process.stdout is not None
        yield from self._process.stdout
        self._process.wait()

    def _overrun(self) -> None:
        self.overran = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


def _dying_with_us() -> list[str]:
    """A command prefix that ends the program when we are killed, so that the next labctl finds the lab free."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _environment(site: Site, project_root: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LABCTL_TOPOLOGY": str(site.state_dir.resolve() / "topology.json"),
        "VAGRANT_CWD": str(project_root),
        "VAGRANT_DOTFILE_PATH": str(dotfile(site)),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
