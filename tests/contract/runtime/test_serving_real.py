"""The kubelet's server over real containers: their logs while they run, end and start again, and what they use."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from agents.kubelet import serving
from agents.kubelet.config import Config
from agents.kubelet.server import Server
from labctl.runtime.loop import wait_for
from tests.contract.runtime.conftest import World
from tests.e2e.controlplane.certificates import Authority
from tests.e2e.controlplane.plane import free_port


class Asker:
    """The API server's side."""

    def __init__(self, server: Server, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=str(authority.path))
        context.load_cert_chain(*authority.issue("api", "kube-apiserver-kubelet-client"))
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, timeout=20)
        self._base = f"https://127.0.0.1:{server.port}"

    def get(self, path: str, *, stream: bool = False) -> urllib3.BaseHTTPResponse:
        answer = self._pool.request("GET", self._base + path, preload_content=not stream)
        assert answer.status == 200
        return answer


@pytest.fixture
def asker(real: World, tmp_path: Path) -> Iterator[Asker]:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("kubelet", "w1")
    config = Config(
        kubeconfig="",
        node_name="w1",
        node_ip="127.0.0.1",
        port=free_port(),
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
        client_ca_file=str(authority.path),
    )
    settings = real.runtime.settings  # type: ignore[attr-defined]
    server = serving.server(config, real.runtime, list, real.clock, settings=settings, address="127.0.0.1")
    assert server is not None
    server.start()
    yield Asker(server, authority)
    server.stop()


def test_a_containers_log_is_followed_to_its_end_and_kept_for_its_next_life(real: World, asker: Asker) -> None:
    pod = real.pod()
    script = "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two"
    identity = real.runtime.start(real.spec(pod, "sh", "-c", script))
    path = f"/containerLogs/default/{pod.name}/main"
    answer = asker.get(f"{path}?follow=true", stream=True)
    assert answer.read1() == b"one\n"
    real.runtime.exec(identity, ["touch", "/tmp/go"], timeout_s=20)
    assert answer.read() == b"two\n"
    real.ended(identity)
    real.runtime.start(real.spec(pod, "sleep", "1000", attempt=1))
    assert asker.get(path).data == b""
    assert asker.get(f"{path}?previous=true&tailLines=1").data == b"two\n"


def test_figures_come_from_the_containers_cgroups(real: World, asker: Asker) -> None:
    pod = real.pod()
    real.runtime.start(real.spec(pod, "sh", "-c", "while :; do :; done"))

    def used_ns() -> int:
        [found] = asker.get("/stats/summary").json()["pods"]
        assert found["podRef"]["uid"] == pod.uid
        [container] = found["containers"]
        assert container["memory"]["workingSetBytes"] > 0
        return int(container["cpu"]["usageCoreNanoSeconds"])

    wait_for(lambda: used_ns() > 100_000_000, what="a tenth of a second of CPU", deadline_s=20, clock=real.clock)


def test_health_is_containerds(real: World, asker: Asker) -> None:
    assert asker.get("/healthz").data == b"ok"
    assert "kubelet_running_pods 0" in asker.get("/metrics").data.decode()


def test_without_a_certificate_there_is_no_server(real: World) -> None:
    assert (
        serving.server(Config(kubeconfig="", node_name="w", node_ip="127.0.0.1"), real.runtime, list, real.clock)
        is None
    )
