"""A real etcd for tests: Debian's etcd-server on free loopback ports, with or without TLS, to be killed and frozen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.etcd import Tls

CLOCK = SystemClock()


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _state(task: Path) -> str:
    """A thread's state as proc(5) names it; its name, in parentheses, may hold anything."""
    return (task / "stat").read_text().rpartition(") ")[2][:1]


@dataclass
class Etcd:
    """One etcd process; `start` after `kill` finds the same data. No disk syncs: tests kill processes, not power."""

    data: Path
    tls: Tls | None = None  # what a client shows
    server: Tls | None = None  # what etcd shows
    name: str = "one"
    cluster: dict[str, str] = field(default_factory=dict)  # peers' URLs by name; just this one if empty
    extra: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where the other members connect."""
        return f"http://127.0.0.1:{self.peer_port}"

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        program = shutil.which("etcd")
        assert program, "etcd is not installed: apt-get install etcd-server"
        metrics = free_port()
        members = self.cluster or {self.name: self.peer_url}
        argv = [program, "--name", self.name, "--data-dir", str(self.data), "--logger", "zap"]
        argv += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        argv += ["--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url]
        argv += ["--initial-cluster", ",".join(f"{name}={url}" for name, url in members.items())]
        argv += ["--listen-metrics-urls", f"http://127.0.0.1:{metrics}", "--unsafe-no-fsync", *self.extra]
        if self.server:
            argv += ["--cert-file", self.server.cert_file, "--key-file", self.server.key_file]
            argv += ["--client-cert-auth", "--trusted-ca-file", self.server.ca_file]
        log = self.data.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._health = f"http://127.0.0.1:{metrics}/health"

    def start(self) -> None:
        """Start and wait until it serves."""
        self.launch()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Wait until it serves."""
        log = self.data.with_suffix(".log")
        wait_for(self._healthy, what=f"etcd to be healthy, see {log}", deadline_s=30, clock=CLOCK, every_s=0.05)

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread has stopped: connections stay, answers don't come."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        wait_for(
            lambda: all(_state(task) == "T" for task in tasks.iterdir()),
            what="etcd to freeze",
            deadline_s=10,
            clock=CLOCK,
            every_s=0.01,
        )

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"etcd ended, see {self.data.with_suffix('.log')}"
        try:
            with urllib.request.urlopen(self._health, timeout=2) as answer:
                return b"true" in answer.read()
        except (urllib.error.URLError, OSError):
            return False
