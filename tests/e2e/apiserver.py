"""An API server process on loopback, over a real etcd or the memory store, and kubectl pointed at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e.certs import Pki
from tests.etcd import free_port

CLOCK = SystemClock()


class ApiServer:
    """`python -m master.apiserver`, to be killed and started again with the same certificates and port."""

    def __init__(self, folder: Path, etcd_url: str = "memory://", *, profile: str = "fast") -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.pki = Pki(folder / "pki")
        self._config = self.pki.config(self.port, etcd_url, profile)
        self._process: subprocess.Popen[bytes] | None = None
        self.admin = self.pki.kubeconfig("admin", self.url)
        self._lock = threading.Lock()

    def client(self, identity: str = "admin", **options: Any) -> Client:
        """A client as one of `tests.e2e.certs.IDENTITIES`."""
        with self._lock:
            path = self.pki.kubeconfig(identity, self.url)
        return Client.from_kubeconfig(str(path), **options)

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        with (self.folder / "apiserver.log").open("ab") as log:
            argv = [sys.executable, "-m", "master.apiserver", "--config", str(self._config)]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> ApiServer:
        """Start the process and wait until it is ready."""
        self.launch()
        client = self.client(timeout_s=2)

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            try:
                return client.request("GET", "/readyz") == b"ok"
            except Exception:
                return False

        wait_for(ready, what=f"the API server\n{self.log}", deadline_s=60, clock=CLOCK, every_s=0.1)
        return self

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "apiserver.log").read_text()

    def stop(self, *, deadline_s: float = 20) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=deadline_s)
        self._process = None
        return code

    def kill(self) -> None:
        """kill -9, master process and worker, if it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None

    @property
    def resident_bytes(self) -> int:
        """Memory of the master process and the worker, shared pages counted once (proportional set size)."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return sum(_pss(pid) for pid in (self._process.pid, *map(int, children)))


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no Pss")


class Follower:
    """The lines a running program has written, read in a thread of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._stream = process.stdout
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._stream is not None
        for line in self._stream:
            self.lines.append(line)

    def shows(self, word: str, *, deadline_s: float = 20) -> str:
        """The first line with the word, once there is one."""
        return wait_for(
            lambda: next((line for line in list(self.lines) if word in line), ""),
            what=f"{word!r} in {self.lines}",
            deadline_s=deadline_s,
            clock=CLOCK,
        )

    def join(self) -> None:
        """Wait for the end of the output."""
        self._reader.join(timeout=10)
        assert self._stream is not None
        self._stream.close()


@dataclass(frozen=True)
class Tool:
    """A client program (kubectl and helm take the same options), a kubeconfig and a namespace of its own."""

    binary: Path
    kubeconfig: Path
    home: Path
    namespace: str = "default"

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = 60,
        env: dict[str, str] | None = None,
    ) -> str:
        """Standard output; with `check` the exit code must be 0, else the error text is what comes back."""
        done = subprocess.run(
            self.argv(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**self._environment, **(env or {})},
        )
        if not check:
            return done.stdout + done.stderr
        assert done.returncode == 0, f"{self.binary.name} {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    @contextmanager
    def follow(self, *arguments: str) -> Iterator[Follower]:
        """The command, running on its own until the block ends."""
        process = subprocess.Popen(
            self.argv(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        follower = Follower(process)
        try:
            yield follower
        finally:
            process.terminate()
            process.wait(timeout=10)
            follower.join()

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home)}

    def argv(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [str(self.binary), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]


@dataclass(frozen=True)
class Kubectl(Tool):
    """kubectl."""

    def json(self, *arguments: str) -> Any:
        """The `-o json` output."""
        return msgspec.json.decode(self.run(*arguments, "-o", "json"))

    def path(self, *arguments: str, at: str) -> str:
        """What a JSONPath expression finds in the output: `at` without the braces, such as `.spec.replicas`."""
        return self.run(*arguments, "-o", f"jsonpath={{{at}}}")
