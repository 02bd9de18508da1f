"""A load generator for any API server: `python -m tests.bench.load KUBECONFIG SCENARIO CLIENTS SECONDS` prints JSON.

Greenlets over raw TLS sockets, one request in flight each, so that the generator costs little beside the server.
Scenarios: get, list, create, update, watch.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402
import ssl  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
import msgspec  # noqa: E402

from labctl.kube.kubeconfig import load  # noqa: E402
from labctl.runtime.clock import SystemClock  # noqa: E402

CLOCK = SystemClock()
NAMESPACE = "/api/v1/namespaces/default"


class Connection:
    """One keep-alive connection."""

    def __init__(self, kubeconfig: str) -> None:
        endpoint = load(kubeconfig)
        target = urlsplit(endpoint.servers[0])
        context = ssl.create_default_context(cadata=endpoint.ca_pem or None)
        if endpoint.cert_pem:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(endpoint.cert_pem + "\n" + endpoint.key_pem)
                file.flush()
                context.load_cert_chain(file.name)
        raw = socket.create_connection((target.hostname, target.port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname=target.hostname)
        self._pending = b""

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send and read one answer with a Content-Length."""
        self.send(method, path, body)
        head = self._until(b"\r\n\r\n")
        code = int(head[9:12])
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        length = int(lower[at : lower.index(b"\r\n", at)])
        while len(self._pending) < length:
            self._more()
        answer, self._pending = self._pending[:length], self._pending[length:]
        return code, answer

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def lines(self) -> Iterator[bytes]:
        """The lines of a chunked answer, for ever."""
        self._until(b"\r\n\r\n")
        text = b""
        while True:
            size = int(self._until(b"\r\n"), 16)
            while len(self._pending) < size + 2:
                self._more()
            text += self._pending[:size]
            self._pending = self._pending[size + 2 :]
            *whole, text = text.split(b"\n")
            yield from whole

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            self._more()
        head, _, self._pending = self._pending.partition(end)
        return head + end

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._pending += data


def config_map(name: str) -> bytes:
    """A ConfigMap of about 1 KiB."""
    document = {"metadata": {"name": name, "labels": {"bench": "yes"}}, "data": {"text": "x" * 900}}
    return msgspec.json.encode(document)


def _worker(connection: Connection, scenario: str, number: int) -> Callable[[int], None]:
    """One client's step: takes its count, raises where the answer is not as it should be."""
    maps = f"{NAMESPACE}/configmaps"
    mine = f"{maps}/bench-{number}"
    code, answer = connection.request("POST", maps, config_map(f"bench-{number}"))
    if code == 409:
        code, answer = connection.request("GET", mine)
    assert code in {200, 201}, answer
    state = {"object": msgspec.json.decode(answer)}

    def get(_: int) -> None:
        code, answer = connection.request("GET", mine)
        assert code == 200, answer

    def list_all(_: int) -> None:
        code, answer = connection.request("GET", f"{NAMESPACE}/pods")
        assert code == 200, answer[:200]

    def create(count: int) -> None:
        code, answer = connection.request("POST", maps, config_map(f"new-{CLOCK.monotonic_s():.6f}-{number}-{count}"))
        assert code == 201, answer

    def update(count: int) -> None:
        state["object"]["data"]["count"] = str(count)
        code, answer = connection.request("PUT", mine, msgspec.json.encode(state["object"]))
        assert code == 200, answer
        state["object"] = msgspec.json.decode(answer)

    return {"get": get, "list": list_all, "create": create, "update": update}[scenario]


def run(kubeconfig: str, scenario: str, clients: int, seconds: float) -> dict[str, float]:
    """Rate per second, p50 and p99 in milliseconds."""
    steps = [_worker(Connection(kubeconfig), scenario, number) for number in range(clients)]
    taken_s: list[float] = []
    begin_s = CLOCK.monotonic_s()
    end_s = begin_s + seconds

    def work(step: Callable[[int], None]) -> None:
        count = 0
        now_s = CLOCK.monotonic_s()
        while now_s < end_s:
            step(count)
            count += 1
            before_s, now_s = now_s, CLOCK.monotonic_s()
            taken_s.append(now_s - before_s)

    gevent.joinall([gevent.spawn(work, step) for step in steps], raise_error=True)
    return _summary(taken_s, CLOCK.monotonic_s() - begin_s)


def watch(kubeconfig: str, clients: int, seconds: float) -> dict[str, float]:
    """`clients` watches of ConfigMaps and 50 writes a second: events delivered and how late (from acknowledged)."""
    watchers = [Connection(kubeconfig) for _ in range(clients)]
    for connection in watchers:
        connection.send(
            "GET", f"{NAMESPACE}/configmaps?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dbeat"
        )
    writer = Connection(kubeconfig)
    writer.request("POST", f"{NAMESPACE}/configmaps", config_map("beat"))
    acknowledged_s: dict[str, float] = {}
    late_s: list[float] = []
    seen = [0] * clients

    def follow(place: int) -> None:
        for line in watchers[place].lines():
            at = line.index(b'"resourceVersion":"') + 19
            version = line[at : line.index(b'"', at)].decode()
            now_s = CLOCK.monotonic_s()
            if version not in acknowledged_s and not acknowledged_s:
                continue
            seen[place] += 1
            late_s.append(max(0.0, now_s - acknowledged_s.get(version, now_s)))

    greenlets = [gevent.spawn(follow, place) for place in range(clients)]
    gevent.sleep(2 + clients / 500)
    count = int(seconds * 50)
    begin_s = CLOCK.monotonic_s()
    for number in range(count):
        gevent.sleep(max(0.0, begin_s + number / 50 - CLOCK.monotonic_s()))
        body = msgspec.json.encode({"metadata": {"name": "beat"}, "data": {"count": str(number), "text": "x" * 900}})
        code, answer = writer.request("PUT", f"{NAMESPACE}/configmaps/beat", body)
        assert code == 200, answer
        acknowledged_s[msgspec.json.decode(answer)["metadata"]["resourceVersion"]] = CLOCK.monotonic_s()
    gevent.sleep(3)
    gevent.killall(greenlets)
    # The first write may reach a watcher before it is acknowledged, and is then not counted as seen.
    complete = sum(1 for number in seen if number >= count - 1)
    return _summary(late_s, CLOCK.monotonic_s() - begin_s) | {"complete": float(complete)}


def _summary(taken_s: list[float], lasted_s: float) -> dict[str, float]:
    ordered = sorted(taken_s) or [0.0]
    return {
        "rate": len(taken_s) / lasted_s,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
    }


def main() -> None:
    """See the module."""
    kubeconfig, scenario, clients, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    result = watch(kubeconfig, clients, seconds) if scenario == "watch" else run(kubeconfig, scenario, clients, seconds)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()
