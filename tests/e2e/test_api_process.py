"""The process itself: other clients, TLS identities, stops and kills, logs through the kubelet, memory."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
import urllib3

from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Forbidden
from labctl.kube.resources import CONFIG_MAPS, NODES, PODS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e import clients
from tests.e2e.apiserver import ApiServer, Kubectl
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()
BUDGET_BYTES = 150 * 1024 * 1024


def config_map(name: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": {"a": "b"}}


def test_an_idle_server_stays_within_its_memory(server: ApiServer) -> None:
    for resource in (PODS, NODES, CONFIG_MAPS):
        server.client().list(resource)
    server.client().request("GET", "/openapi/v2")
    assert server.resident_bytes < BUDGET_BYTES


def test_a_certificate_says_who_we_are(server: ApiServer) -> None:
    assert server.client("scheduler").list(PODS).items == []
    with pytest.raises(Forbidden, match='User "system:kube-scheduler" cannot create resource "configmaps"'):
        server.client("scheduler").create(CONFIG_MAPS, config_map("m"), "default")
    with pytest.raises(Forbidden, match='User "somebody"'):
        server.client("nobody").list(PODS)


def test_without_a_certificate_only_health_answers(server: ApiServer) -> None:
    with urllib3.PoolManager(ca_certs=str(server.pki.ca_file)) as http:
        assert http.request("GET", f"{server.url}/livez").data == b"ok"
        refused = http.request("GET", f"{server.url}/api/v1/pods")
        assert (refused.status, refused.json()["reason"]) == (403, "Forbidden")


def test_a_body_over_the_limit_is_refused(server: ApiServer) -> None:
    huge = {"metadata": {"name": "m"}, "data": {"a": "x" * (4 * 1024 * 1024)}}
    with pytest.raises(ApiError) as raised:
        server.client().create(CONFIG_MAPS, huge, "default")
    assert raised.value.code == 413


def test_a_stop_ends_watches_cleanly_and_the_next_start_goes_on(server: ApiServer) -> None:
    client = server.client()
    version = client.list(CONFIG_MAPS).metadata.resource_version
    ended = threading.Event()

    def follow() -> None:
        with client.watch(CONFIG_MAPS, resource_version=version, timeout_s=60) as events:
            for _ in events:
                pass
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    metrics = b'apiserver_registered_watchers{group="",kind="ConfigMap",version="v1"} 1'
    wait_for(lambda: metrics in client.request("GET", "/metrics"), what="the watch", deadline_s=10, clock=CLOCK)
    assert server.stop(deadline_s=5) == 0, "idle connections held the server up"
    assert ended.wait(10), "the watch was not ended"
    server.start()
    server.client().create(CONFIG_MAPS, config_map("after"), "default")
    assert _first(server.client(), version) == "ADDED"  # what an earlier server had told is where this one goes on
    page = server.client().list(CONFIG_MAPS, "default")
    assert [msgspec.json.decode(raw)["metadata"]["name"] for raw in page.items] == ["after"]


def test_a_stop_lets_a_request_under_way_finish(server: ApiServer) -> None:
    body = msgspec.json.encode(config_map("under-way"))
    head = (
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    tls = ssl.create_default_context(cafile=str(server.pki.ca_file))
    tls.load_cert_chain(*server.pki.issue("finisher", "finisher", "system:masters"))
    address = ("127.0.0.1", server.port)
    with tls.wrap_socket(socket.create_connection(address, timeout=20), server_hostname="127.0.0.1") as client:
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100")
        client.sendall(body[:10])
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(server.stop)
            wait_for(lambda: _refused(address), what="the port to close", deadline_s=10, clock=CLOCK, every_s=0.05)
            client.sendall(body[10:])
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 201"), answer
            assert b"Connection: close" in answer
            assert stopped.result(20) == 0
    assert server.start().client().get(CONFIG_MAPS, "under-way", "default")["data"] == {"a": "b"}


def _refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def _first(client: Client, version: str) -> str:
    with client.watch(CONFIG_MAPS, resource_version=version, timeout_s=2) as events:
        return next(event.type for event in events)


def test_a_kill_loses_no_acknowledged_write(server: ApiServer) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(worker: int) -> None:
        client, count = server.client(timeout_s=5), 0
        while not stop.is_set():
            count += 1
            try:
                client.create(CONFIG_MAPS, config_map(f"m-{worker}-{count}"), "default")
            except ApiError:
                stop.wait(0.05)
                continue
            acknowledged.append(f"m-{worker}-{count}")

    workers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(3):
        before = len(acknowledged)
        wait_for(lambda before=before: len(acknowledged) > before + 20, what="writes", deadline_s=30, clock=CLOCK)  # type: ignore[misc]
        server.kill()
        server.start()
    stop.set()
    for worker in workers:
        worker.join(20)
    page = server.client().list(CONFIG_MAPS, "default")
    stored = {msgspec.json.decode(raw)["metadata"]["name"] for raw in page.items}
    assert set(acknowledged) <= stored


def test_the_api_answers_again_after_etcd_was_away(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    server = ApiServer(tmp_path, etcd.url)
    try:
        server.start()
        client = server.client(timeout_s=15)
        client.create(CONFIG_MAPS, config_map("before"), "default")
        etcd.kill()
        with pytest.raises(ApiError) as raised:
            client.get(CONFIG_MAPS, "before", "default")
        assert raised.value.code >= 500
        etcd.start()
        found = wait_for(lambda: _get(client, "before"), what="an answer", deadline_s=30, clock=CLOCK)
        assert found["data"] == {"a": "b"}
    finally:
        server.kill()
        etcd.kill()


def _get(client: Client, name: str) -> dict[str, object] | None:
    try:
        return client.get(CONFIG_MAPS, name, "default")
    except ApiError:
        return None


class _Kubelet(BaseHTTPRequestHandler):
    """Answers as a kubelet does for /containerLogs."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        subject = self.connection.getpeercert()["subject"]
        for text in (f"{self.path}\n", f"{subject[0][0][1]}\n"):
            self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


def test_logs_come_from_the_kubelet_of_the_pods_node(server: ApiServer, tmp_path: Path) -> None:
    kubelet = ThreadingHTTPServer(("127.0.0.1", 0), _Kubelet)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.pki.ca_file))
    tls.load_cert_chain(*server.pki.issue("kubelet-server", "system:node:n1", "system:nodes"))
    tls.verify_mode = ssl.CERT_REQUIRED
    kubelet.socket = tls.wrap_socket(kubelet.socket, server_side=True)
    threading.Thread(target=kubelet.serve_forever, daemon=True).start()
    client = server.client()
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.server_port}},
    }
    client.create(NODES, {"metadata": {"name": "n1"}, "status": status})
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x:1"}]}}
    client.create(PODS, pod, "default")
    tool = Kubectl(clients.program("kubectl", "1.37"), server.admin, tmp_path)
    path, subject = tool.run("logs", "p", "--tail=5", "-f").splitlines()
    assert path == "/containerLogs/default/p/c?follow=true&tailLines=5"
    assert subject == "kube-apiserver-kubelet-client"
    kubelet.shutdown()
