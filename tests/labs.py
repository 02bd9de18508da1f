"""Driving a real lab in tests as a user does: by the `labctl` program, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "examples" / "web.yaml"
LABCTL = Path(sys.executable).with_name("labctl")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished program."""

    code: int
    stdout: str
    stderr: str


def eventually(probe: Callable[[], T | None], what: str, deadline_s: float = 60.0) -> T:
    """What `probe` returns once it is truthy; a command that fails in it counts as not yet."""
    failed: list[AssertionError] = []

    def tried() -> T | None:
        try:
            return probe()
        except AssertionError as error:
            failed[:] = [error]
            return None

    try:
        return wait_for(tried, what=what, deadline_s=deadline_s, clock=SystemClock())
    except DeadlineExceeded as error:
        raise error from (failed[0] if failed else None)


class LabUser:
    """Somebody at a terminal with one lab."""

    def __init__(self, home: Path, name: str, provider: str) -> None:
        self.home, self.name, self.provider = home, name, provider
        self.env = {**os.environ, "LABCTL_STATE_DIR": str(home / ".labctl"), "LABCTL_NAME": name}

    def labctl(self, *args: str, code: int | None = 0, timeout_s: float = 600.0) -> Done:
        """Run labctl; fail the test on another exit code than `code` (None: any)."""
        done = subprocess.run(
            [LABCTL, *args], cwd=self.home, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if code is not None and done.returncode != code:
            raise AssertionError(
                f"labctl {' '.join(args)}: exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
            )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start labctl and return at once; its output goes nowhere."""
        return subprocess.Popen(
            [LABCTL, *args], cwd=self.home, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def up(self, *args: str) -> Done:
        """`labctl up` with the provider."""
        return self.labctl("up", "--provider", self.provider, *args, timeout_s=900)

    def kubectl(self, *args: str, program: str = "", code: int | None = 0) -> Done:
        """Run kubectl against the lab: labctl's own way, or another binary."""
        if not program:
            return self.labctl("kubectl", "--", *args, code=code)
        config = self.home / ".labctl" / self.name / "kubeconfig"
        done = subprocess.run(
            [program, f"--kubeconfig={config}", *args], capture_output=True, text=True, timeout=300, check=False
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"{program} {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return Done(done.returncode, done.stdout, done.stderr)

    def json(self, *args: str) -> Any:
        """`kubectl ... -o json`, decoded."""
        return json.loads(self.kubectl(*args, "-o", "json").stdout)

    def pods(self, selector: str = "app=web") -> list[Any]:
        """The pods that match."""
        return list(self.json("get", "pods", "-l", selector)["items"])

    def address(self, node: str) -> str:
        """A node's address."""
        status = json.loads(self.labctl("status", "-o", "json").stdout)
        return str(next(entry["address"] for entry in status["nodes"] if entry["name"] == node))

    def deploy_web(self) -> None:
        """The example Deployment and Service, available."""
        self.labctl("image", "load", "lab.local/web:1")
        self.kubectl("apply", "-f", str(WEB))
        self.kubectl("rollout", "status", "deployment/web", "--timeout=240s")

    def fetch(self, node: str, port: int = 30080, timeout_s: float = 5.0) -> str | None:
        """The body behind a NodePort, or None."""
        try:
            with urllib.request.urlopen(f"http://{self.address(node)}:{port}/", timeout=timeout_s) as answer:
                return str(answer.read().decode())
        except OSError:
            return None


def pod_key(pod: Any) -> tuple[str, str, str]:
    """What makes a pod the same one: UID, name, node."""
    return pod["metadata"]["uid"], pod["metadata"]["name"], pod["spec"].get("nodeName", "")


def is_ready(pod: Any) -> bool:
    """Whether the pod is Ready and not on its way out."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
