"""Containers that have an input run under a holder, which outlives us and is found again by the container's id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from agents.kubelet.nerdctl_call import text_of
from agents.kubelet.runtime import ContainerSpec, RuntimeFailure
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import Output, at_usual_priority


def start(line: Sequence[str], spec: ContainerSpec, stem: Path, *, clock: Clock, timeout_s: float) -> Output:
    """Run nerdctl's `line` under a holder until the container lives or has failed; as if nerdctl had then returned.

    `stem`: beside it lie the files that get id and pid, the holder's socket and its first words.
    """
    words = stem.with_suffix(".err")
    flags = "-" + ("t" if spec.tty else "") + ("o" if spec.stdin_once else "")
    argv = [sys.executable, "-m", "agents.kubelet.holder", str(stem.with_suffix(".sock")), flags, "--", *line]
    none = subprocess.DEVNULL
    with words.open("wb") as file:
        process = subprocess.Popen(
            at_usual_priority(argv), stdin=none, stdout=none, stderr=file, start_new_session=True
        )

    def lives() -> bool:
        return process.poll() is not None or _lives(stem)

    try:
        wait_for(lives, what=f"the start of {spec.name}", deadline_s=timeout_s, clock=clock, every_s=0.02)
    except DeadlineExceeded as error:
        process.kill()
        raise RuntimeFailure(str(error), reason="ContainerRuntimeNotReady") from error
    finally:
        said = words.read_text(encoding="utf-8", errors="replace")
        words.unlink()
        threading.Thread(target=process.wait, name="holder", daemon=True).start()  # reaps it
    failed = process.returncode and ("level=fatal" in said or not text_of(stem.with_suffix(".pid")))
    if failed:
        stem.with_suffix(".sock").unlink(missing_ok=True)
    return Output(process.returncode if failed else 0, "", said)


def settle(stem: Path, work_dir: str, container_id: str) -> None:
    """From now on the holder is found by its container."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(stem.with_suffix(".sock"), _path(work_dir, container_id))


def forget(work_dir: str, container_id: str) -> None:
    """The container is removed."""
    _path(work_dir, container_id).unlink(missing_ok=True)


def connect(work_dir: str, container_id: str) -> socket.socket | None:
    """A connection to a container's holder; None where it has none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(_path(work_dir, container_id)))
    except OSError:
        sock.close()
        return None
    return sock


def _path(work_dir: str, container_id: str) -> Path:
    return Path(work_dir, f"attach-{container_id[:32]}.sock")


def _lives(stem: Path) -> bool:
    """Whether the container's own program runs, rather than what prepares it."""
    pid = text_of(stem.with_suffix(".pid"))
    if not pid or not text_of(stem.with_suffix(".id")):
        return False
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"runc\0init")
    except OSError:
        return True
