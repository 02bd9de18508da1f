"""A load generator for any API server: `python -m tests.bench.load KUBECONFIG SCENARIO CLIENTS SECONDS` prints JSON.

Greenlets over raw TLS sockets, one request in flight each, so that the generator costs little beside the server.
Scenarios: get, list, create, update, watch; select (a list by field, CLIENTS is how often); idle (CLIENTS watches, held
until standard input ends). `puts`: as many creates straight in an etcd, whose URL stands where the kubeconfig would.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402
import ssl  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import lru_cache, partial  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
import msgspec  # noqa: E402

from labctl.kube.kubeconfig import load  # noqa: E402
from labctl.runtime.clock import SystemClock  # noqa: E402
from master.store.etcd import EtcdStore  # noqa: E402

CLOCK = SystemClock()
NAMESPACE = "/api/v1/namespaces/default"


@lru_cache(maxsize=1)
def _endpoint(kubeconfig: str) -> tuple[tuple[str, int], ssl.SSLContext, str]:
    """Where to connect, how, and a header line with the token if there is one."""
    endpoint = load(kubeconfig)
    target = urlsplit(endpoint.servers[0])
    context = ssl.create_default_context(cadata=endpoint.ca_pem or None)
    if endpoint.cert_pem:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(endpoint.cert_pem + "\n" + endpoint.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
    identity = f"Authorization: Bearer {endpoint.token}\r\n" if endpoint.token else ""
    return (target.hostname or "", target.port or 443), context, identity


class Connection:
    """One keep-alive connection."""

    def __init__(self, kubeconfig: str) -> None:
        target, context, self._identity = _endpoint(kubeconfig)
        raw = socket.create_connection(target, timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname=target[0])
        self._pending = b""

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send and read one whole answer."""
        self.send(method, path, body)
        head = self._until(b"\r\n\r\n")
        code = int(head[9:12])
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return code, b"".join(iter(self._chunk, b""))
        at = lower.index(b"content-length:") + 15
        return code, self._exactly(int(lower[at : lower.index(b"\r\n", at)]))

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}{self._identity}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def head(self) -> None:
        """Read the head of an answer."""
        self._until(b"\r\n\r\n")

    def lines(self) -> Iterator[bytes]:
        """The lines of a chunked answer, for ever."""
        self.head()
        text = b""
        while chunk := self._chunk():
            *whole, text = (text + chunk).split(b"\n")
            yield from whole

    def _chunk(self) -> bytes:
        """The next chunk; empty at the end."""
        size = int(self._until(b"\r\n"), 16)
        return self._exactly(size + 2)[:size]

    def _exactly(self, size: int) -> bytes:
        """TLS hands out 16 KiB at once at most: the pieces of a long answer are joined but once."""
        pieces, missing = [self._pending[:size]], size - len(self._pending)
        self._pending = self._pending[size:]
        while missing > 0:
            piece = self._receive()
            pieces.append(piece[:missing])
            self._pending = piece[missing:]
            missing -= len(piece)
        return b"".join(pieces)

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            self._pending += self._receive()
        head, _, self._pending = self._pending.partition(end)
        return head + end

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


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


def idle(kubeconfig: str, clients: int) -> dict[str, float]:
    """Open watches on which nothing happens; say so, and hold them until standard input ends."""
    path = "/api/v1/namespaces/kube-public/configmaps?watch=true&resourceVersion=0"
    watchers = [Connection(kubeconfig) for _ in range(clients)]
    for connection in watchers:
        connection.send("GET", path)
    for connection in watchers:
        connection.head()
    sys.stdout.write("open\n")
    sys.stdout.flush()
    sys.stdin.read()
    return {"open": float(len(watchers))}


def select(kubeconfig: str, times: int) -> dict[str, float]:
    """List the pods of one node out of all, one after the other."""
    connection = Connection(kubeconfig)
    taken_s = []
    for _ in range(times):
        began_s = CLOCK.monotonic_s()
        code, answer = connection.request("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dworker7")
        taken_s.append(CLOCK.monotonic_s() - began_s)
        assert code == 200, answer[:200]
    found = len(msgspec.json.decode(answer)["items"])
    first_s, *warm_s = taken_s  # the first fills the server's cache
    return _summary(warm_s, sum(warm_s)) | {"found": float(found), "first_ms": first_s * 1000}


def puts(url: str, clients: int, seconds: float) -> dict[str, float]:
    """Creates of the same size by our own etcd client, with nothing above it."""
    store = EtcdStore([url], clock=CLOCK)
    value = config_map("raw")
    taken_s: list[float] = []
    begin_s = CLOCK.monotonic_s()
    end_s = begin_s + seconds

    def work(number: int) -> None:
        count, now_s = 0, CLOCK.monotonic_s()
        while now_s < end_s:
            store.create(f"/bench/{begin_s:.6f}/{number}/{count}", value)
            count += 1
            before_s, now_s = now_s, CLOCK.monotonic_s()
            taken_s.append(now_s - before_s)

    gevent.joinall([gevent.spawn(work, number) for number in range(clients)], raise_error=True)
    store.close()
    return _summary(taken_s, CLOCK.monotonic_s() - begin_s)


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
    if scenario == "watch":
        result = watch(kubeconfig, clients, seconds)
    elif scenario == "idle":
        result = idle(kubeconfig, clients)
    elif scenario == "select":
        result = select(kubeconfig, clients)
    else:
        act = puts if scenario == "puts" else partial(run, scenario=scenario)
        result = act(kubeconfig, clients=clients, seconds=seconds)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()
