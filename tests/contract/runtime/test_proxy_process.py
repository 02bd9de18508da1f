"""kube-proxy as a process, against a real API server, in a network namespace of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from labctl.kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.contract.runtime.netlab import Place
from tests.e2e.controlplane.plane import Plane

CLOCK = SystemClock()


class Running:
    """A control plane and a proxy in one namespace."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(f"lp{uuid.uuid4().hex[:6]}")
        self.place.ip("address", "add", "10.216.9.9/24", "dev", "lo")
        self.plane = Plane(folder)
        self.place.call(lambda: self.plane.start("apiserver"))
        self.config = folder / "proxy.json"
        settings = {
            "kubeconfig": self.plane.authority.kubeconfig("proxy", self.plane.server, "system:kube-proxy"),
            "profile": "fast",
            "node_name": "w1",
            "node_ip": "10.216.9.9",
            "cluster_cidr": "10.214.0.0/16",
            "service_cidr": "10.96.0.0/12",
        }
        self.config.write_bytes(msgspec.json.encode(settings))
        self.log = folder / "proxy.log"
        with self.log.open("wb") as log:
            argv = [sys.executable, "-m", "agents.proxy", "--config", str(self.config)]
            self.process = self.place.call(lambda: subprocess.Popen(argv, stdout=log, stderr=log))

    def rules(self) -> str:
        words = ["ip", "netns", "exec", self.place.name, "nft", "list", "table", "ip", "labctl-proxy"]
        return self.place.shell.run(words, check=False).stdout

    def write(self, verb: str, *words: Any) -> None:
        self.place.call(lambda: getattr(self.plane.client, verb)(*words))

    def until(self, text: str, *, absent: bool = False) -> float:
        """Wait until the rules have a text, or have it no more; the seconds it took."""
        begun_s = CLOCK.monotonic_s()
        look = lambda: (text in self.rules()) != absent  # noqa: E731
        wait_for(look, what=f"{text!r}; {self.log.read_text()[-2000:]}", deadline_s=20, clock=CLOCK, every_s=0.02)
        return CLOCK.monotonic_s() - begun_s

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.plane.stop()
        self.place.shell.run(["ip", "netns", "delete", self.place.name])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    yield found
    found.close()


def slice_of(*addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


def test_rules_and_routes_follow_the_api_and_outlive_the_process(running: Running) -> None:
    running.write("create", SERVICES, {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, "default")
    running.until("goto refuse")
    running.write("create", ENDPOINT_SLICES, slice_of("10.214.1.2"), "default")
    assert running.until("dnat to 10.214.1.2:8080") < 3
    running.write("create", NODES, {"metadata": {"name": "w2"}, "spec": {"podCIDR": "10.214.2.0/24"}})
    address = {"status": {"addresses": [{"type": "InternalIP", "address": "10.216.9.10"}]}}
    running.place.ip("route", "add", "10.216.9.0/24", "dev", "lo")
    running.place.call(lambda: running.plane.client.patch(NODES, "w2", address, subresource="status"))
    there = lambda: "10.214.2.0/24 via 10.216.9.10" in running.place.ip("route")  # noqa: E731
    wait_for(there, what="the route", deadline_s=20, clock=CLOCK, every_s=0.05)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 0
    assert "dnat to 10.214.1.2:8080" in running.rules()


def test_it_is_small_and_costs_nothing_while_nothing_changes(running: Running) -> None:
    running.write("create", SERVICES, {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, "default")
    running.until("goto refuse")
    process = psutil.Process(running.process.pid)
    CLOCK.sleep_s(1.0)
    before = process.cpu_times()
    CLOCK.sleep_s(5.0)
    after = process.cpu_times()
    used_s = sum(after[:4]) - sum(before[:4])
    print(f"kube-proxy: {process.memory_info().rss >> 20} MiB, {used_s / 5:.2%} of a core idle")
    assert process.memory_info().rss < 60 * 2**20
    assert used_s / 5 < 0.01


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "proxy.json: "),
        (
            b'{"kubeconfig": "x", "node_name": "a", "node_ip": "nope", "cluster_cidr": "", "service_cidr": ""}',
            "node_ip",
        ),
        (b'{"kubeconfig": "x", "bogus": 1}', "bogus"),
    ],
)
def test_a_bad_configuration_is_told_with_file_and_field(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "proxy.json").write_bytes(content)
    argv = [sys.executable, "-m", "agents.proxy", "--config", str(tmp_path / "proxy.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ}, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
