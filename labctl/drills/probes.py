"""The load of a drill: HTTP requests at a fixed rate, whether or not the earlier ones were answered (open loop).

A closed loop would send nothing while it waits, and a stall of ten seconds would count as one slow request. Here
each request has an intended send time on a fixed grid; its latency counts from there, so that a stall, the
service's or ours, is seen in full. Every request stands for a client of its own: a connection from a source port
that was not used for many minutes, so each is routed afresh, and no entry of a connection tracker that still waits
for a dead endpoint (120 s after a SYN) is met again.

One thread and non-blocking sockets: 20 requests a second cost about 1% of a core.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
from dataclasses import dataclass, field

from labctl.drills.history import Recorder
from labctl.drills.records import Probed
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop

_ANSWER_BYTES = 65_536
_PORTS = range(32_768, 60_999)  # the usual ephemeral ports; at 20 a second they last for 23 minutes
_IN_FLIGHT = 512  # a bound that no sane rate reaches; beyond it requests fail at once and say so


@dataclass(frozen=True, slots=True)
class Load:
    """Where requests go, in turn, and how many a second."""

    addresses: tuple[str, ...]
    port: int
    path: str = "/"
    rate_per_s: float = 20.0
    timeout_s: float = 1.0


@dataclass(slots=True)
class _Request:
    number: int
    intended_s: float
    via: str
    socket: socket.socket
    sent_s: float
    answer: bytearray = field(default_factory=bytearray)


class Prober:
    """Sends the load from `start` to `stop`, and records each request when it ends."""

    def __init__(self, load: Load, recorder: Recorder, clock: Clock) -> None:
        assert load.addresses
        assert load.rate_per_s > 0
        self._load, self._recorder, self._clock = load, recorder, clock
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, _Request] = {}
        # Where an earlier drill of this boot would have come to by now, so that it is not followed too closely.
        self._next_port = int(clock.monotonic_s() * load.rate_per_s)
        self._thread: threading.Thread | None = None

    def start(self, stop: Stop) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(stop,), name="drill-prober", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the last request has ended, after `stop`."""
        if self._thread is not None:
            self._thread.join(self._load.timeout_s + 5.0)

    def _run(self, stop: Stop) -> None:
        begin_s, number = self._clock.monotonic_s(), 0
        period_s = 1.0 / self._load.rate_per_s
        while not stop.is_set() or self._open:
            now_s = self._clock.monotonic_s()
            while not stop.is_set() and begin_s + number * period_s <= now_s:
                self._send(number, begin_s + number * period_s)
                number += 1
            self._give_up()
            until_s = 0.05 if stop.is_set() else begin_s + number * period_s - self._clock.monotonic_s()
            for key, _ in self._selector.select(max(0.0, min(until_s, 0.05))):
                self._advance(key.data, key.events)
        self._selector.close()

    def _send(self, number: int, intended_s: float) -> None:
        via = self._load.addresses[number % len(self._load.addresses)]
        if len(self._open) >= _IN_FLIGHT:
            self._record(number, intended_s, via, error="too many requests in flight")
            return
        connection = self._fresh_socket()
        code = connection.connect_ex((via, self._load.port))
        request = _Request(number, intended_s, via, connection, self._clock.monotonic_s())
        if code not in {0, errno.EINPROGRESS}:
            connection.close()
            self._record(number, intended_s, via, error=errno.errorcode.get(code, str(code)))
            return
        self._open[number] = request
        self._selector.register(connection, selectors.EVENT_WRITE, request)

    def _fresh_socket(self) -> socket.socket:
        """A socket bound to the next source port that is free; to any where a hundred in a row are taken."""
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _ in range(100):
            self._next_port += 1
            with contextlib.suppress(OSError):
                connection.bind(("", _PORTS[self._next_port % len(_PORTS)]))
                break
        return connection

    def _advance(self, request: _Request, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._ask(request)
            elif self._read(request):
                self._judge(request)
        except OSError as error:
            self._end(request, error=errno.errorcode.get(error.errno or 0, str(error)))

    def _ask(self, request: _Request) -> None:
        if code := request.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, "connect")
        text = f"GET {self._load.path} HTTP/1.1\r\nHost: {request.via}\r\nUser-Agent: labctl-drill\r\n"
        request.socket.send(f"{text}X-Request: {request.number}\r\nConnection: close\r\n\r\n".encode())
        self._selector.modify(request.socket, selectors.EVENT_READ, request)

    def _read(self, request: _Request) -> bool:
        """Whether the whole answer is in."""
        chunk = request.socket.recv(_ANSWER_BYTES)
        request.answer += chunk
        return not chunk or _complete(request.answer) or len(request.answer) > _ANSWER_BYTES

    def _judge(self, request: _Request) -> None:
        status = _status(request.answer)
        ok = 200 <= status < 400
        self._end(request, ok=ok, status=status, error="" if ok else f"HTTP {status}" if status else "no answer")

    def _give_up(self) -> None:
        now_s = self._clock.monotonic_s()
        for request in [one for one in self._open.values() if now_s - one.sent_s >= self._load.timeout_s]:
            self._end(request, error="timeout")

    def _end(self, request: _Request, *, ok: bool = False, status: int = 0, error: str = "") -> None:
        self._selector.unregister(request.socket)
        request.socket.close()
        del self._open[request.number]
        self._record(request.number, request.intended_s, request.via, ok=ok, status=status, error=error)

    def _record(
        self, number: int, intended_s: float, via: str, *, ok: bool = False, status: int = 0, error: str = ""
    ) -> None:
        now_s = self._clock.monotonic_s()
        self._recorder.add(
            Probed(
                number=number,
                intended_s=intended_s,
                latency_s=round(now_s - intended_s, 6),
                via=via,
                ok=ok,
                status=status,
                error=error,
            ),
            t_s=now_s,
        )


def _complete(answer: bytearray) -> bool:
    """Whether the headers are in and as much body as they announce."""
    head, found, body = bytes(answer).partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False  # read on until the server closes


def _status(answer: bytearray) -> int:
    """The HTTP status of the first line; 0 where there is none."""
    words = bytes(answer.split(b"\r\n", 1)[0]).split(b" ")
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else 0
