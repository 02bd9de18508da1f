"""Running a command in a container, through `runc exec`.

It takes half the time of `nerdctl exec`, which also asks containerd and the shim, and it tells the pid inside, so that
nothing is left behind when a deadline passes. User, capabilities, environment and cgroup are the container's own.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path

from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.processes import open_process, send
from agents.kubelet.runtime import ExecResult, RuntimeFailure
from labctl.runtime.shell import CommandError, Shell

_OUTPUT_BYTES = 10 * 1024


class RuncExec:
    """Commands in the containers of one node."""

    def __init__(self, shell: Shell, settings: cli.Settings) -> None:
        self.settings = settings
        self._shell = shell

    def line(self, container_id: str, argv: Sequence[str], *, tty: bool, pid_file: Path) -> list[str]:
        """The command line that runs `argv` inside, in the foreground; its pid, as we see it, goes to `pid_file`."""
        terminal = ["--tty", "--env", "TERM=xterm"] if tty else []
        root = f"{self.settings.runc_root}/{self.settings.namespace}"
        return ["runc", "--root", root, "exec", *terminal, "--pid-file", str(pid_file), container_id, *argv]

    def exec(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> ExecResult:
        """See `ContainerRuntime.exec`; code 126 or 127 where the command cannot be run."""
        pid_file = Path(self.settings.work_dir, f"exec-{uuid.uuid4().hex}.pid")
        line = self.line(container_id, argv, tty=False, pid_file=pid_file)
        try:
            output = self._shell.run(line, timeout_s=timeout_s, check=False)
        except CommandError as error:
            if error.code != 124:
                raise RuntimeFailure(str(error), reason="ExecError") from error
            _end(pid_file, container_id)
            return ExecResult(124, f"command timed out after {timeout_s:g} s")
        finally:
            pid_file.unlink(missing_ok=True)
        text = (output.stdout + output.stderr)[:_OUTPUT_BYTES]
        if output.code == 255 and "level=error" in output.stderr:
            if "does not exist" in text or "cannot exec in a stopped" in text:
                raise RuntimeFailure(cli.message_of(output.stderr), reason="ExecError")
            return ExecResult(126 if "permission denied" in text else 127, cli.message_of(output.stderr))
        return ExecResult(output.code, text)


def _end(pid_file: Path, container_id: str) -> None:
    """Kill what an exec left behind in its container when its own deadline passed."""
    pid = pid_file.read_text(encoding="ascii").strip() if pid_file.exists() else ""
    if not pid.isdigit():
        return
    fd = open_process(int(pid), cgroup_word=container_id)
    if fd >= 0:
        send(fd, signal.SIGKILL)
        os.close(fd)
