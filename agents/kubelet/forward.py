"""`port-forward`: SPDY streams over one connection, each joined to a port inside the pod's network namespace.

A client opens two streams for every connection it takes: one for errors, one for bytes, tied by a request id. Sources:
`k8s.io/cri-streaming/pkg/streaming/portforward`, apiserver `util/proxy/streamtunnel.go` (SPDY inside a WebSocket).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agents.kubelet.dial import Dial
from agents.kubelet.remote_command import IDLE_S
from agents.kubelet.wire import Port, Sink, Source, Wire, drive
from labctl.kube import spdy, websocket
from labctl.kube.errors import BadRequest
from labctl.runtime.errors import LabError

TUNNEL, PLAIN = "SPDY/3.1+portforward.k8s.io", "portforward.k8s.io"

_CONNECTIONS = 256  # at once, over one client's connection


@dataclass(slots=True)
class _Pair:
    """One forwarded connection."""

    port: int
    error: int = 0  # the ids of its streams; 0 until opened
    data: int = 0
    errors: list[str] = field(default_factory=list)
    link: Dial | _Link | None = None

    @property
    def ports(self) -> tuple[Port, ...]:
        return () if self.link is None else self.link.ports


class _Link:
    """A connection into the pod, both ways."""

    def __init__(self, sock: socket.socket, give: Callable[[bytes], None], room: Callable[[], bool]) -> None:
        self._sock = sock
        self.source, self.sink = Source(os.dup(sock.fileno()), give, room), Sink(os.dup(sock.fileno()))

    @property
    def ports(self) -> tuple[Port, ...]:
        """Its two directions."""
        if not self.sink.open:  # all is written: tell the pod that no more comes
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        return (self.source, self.sink)

    def close(self) -> None:
        """End both."""
        self.source.close()
        self.sink.close()
        self._sock.close()


class Forward:
    """Serves one client's forwarded connections. `run` blocks until it leaves.

    `netns`: the namespace's path, "" for the host's; `about`: the pod; `tunnel`: SPDY travels in WebSocket messages.
    """

    def __init__(self, sock: ssl.SSLSocket, netns: str, about: str, *, tunnel: bool) -> None:
        self._netns, self._about = netns, about
        self._outer = websocket.Decoder(masked=True) if tunnel else None
        self._decoder, self._encoder = spdy.Decoder(), spdy.Encoder()
        self._pairs: dict[str, _Pair] = {}  # by request id
        self._left = False
        self._wire = Wire(sock, self._take, self._has_room)

    def run(self) -> None:
        """See the class."""
        try:
            drive(self._ports, over=lambda: self._wire.ended or self._left, idle_s=IDLE_S)
        finally:
            for pair in self._pairs.values():
                if pair.link is not None:
                    pair.link.close()
        if not self._wire.ended:
            self._send(self._encoder.goaway(0))
            if self._outer is not None:
                self._wire.send(websocket.close_frame())
        self._wire.finish()

    def _ports(self) -> Iterator[Port]:
        yield self._wire
        for pair in self._pairs.values():
            yield from pair.ports

    def _has_room(self) -> bool:
        return not any(_waits(pair) for pair in self._pairs.values())

    def _send(self, data: bytes) -> None:
        if data:
            self._wire.send(data if self._outer is None else websocket.frame(websocket.BINARY, data))

    def _take(self, data: bytes) -> None:
        try:
            for plain in self._unwrapped(data):
                for frame in self._decoder.feed(plain):
                    self._frame(frame)
        except LabError:
            self._wire.ended = True  # it does not speak the protocol

    def _unwrapped(self, data: bytes) -> Iterator[bytes]:
        if self._outer is None:
            yield data
            return
        for piece in self._outer.feed(data):
            if piece.opcode == websocket.PING:
                self._wire.send(websocket.frame(websocket.PONG, piece.data))
            elif piece.opcode == websocket.CLOSE:
                self._left = True
            elif piece.opcode == websocket.BINARY:
                yield piece.data

    def _frame(self, frame: spdy.Frame) -> None:
        if frame.kind == spdy.SYN_STREAM:
            self._open(frame)
        elif frame.kind == spdy.PING:
            if frame.value % 2:  # the client's own
                self._send(self._encoder.ping(frame.value))
        elif frame.kind == spdy.GOAWAY:
            self._left = True
        elif frame.kind in {0, spdy.RST_STREAM}:
            for name, pair in self._pairs.items():
                if frame.stream == pair.data:
                    self._move(name, pair, frame)
                    return

    def _open(self, frame: spdy.Frame) -> None:
        """As upstream: a stream without type or port is refused; both of a request make a connection."""
        kind, text = frame.headers.get("streamtype", ""), frame.headers.get("port", "")
        name = frame.headers.get("requestid", "")
        if not name:  # clients before 1.4 opened the two in order
            name = str(frame.stream if kind == "error" else frame.stream - 2)
        known = self._pairs.get(name)
        fits = kind in {"error", "data"} and text.isdecimal() and 0 < int(text) < 65536
        if not fits or (known is None and len(self._pairs) >= _CONNECTIONS):
            self._send(self._encoder.rst_stream(frame.stream, spdy.RST_REFUSED))
            return
        pair = known or self._pairs.setdefault(name, _Pair(int(text)))
        self._send(self._encoder.syn_reply(frame.stream))
        if kind == "error":
            pair.error = frame.stream
        else:
            pair.data = frame.stream
        if pair.error and pair.data and pair.link is None:
            self._dial(name, pair)

    def _dial(self, name: str, pair: _Pair) -> None:
        def done(sock: socket.socket | None, why: str) -> None:
            if sock is None:
                self._end(name, pair, self._refused(pair.port, why))
            else:
                self._join(name, pair, sock)

        pair.link = Dial(pair.port, self._netns, done)
        pair.link.begin()

    def _join(self, name: str, pair: _Pair, sock: socket.socket) -> None:
        assert isinstance(pair.link, Dial)
        dial = pair.link

        def give(data: bytes) -> None:
            self._send(self._encoder.data(pair.data, data, fin=not data))
            if not data and link.sink.ending:
                self._end(name, pair, "")

        link = pair.link = _Link(sock, give, lambda: not self._wire.full)
        link.sink.put(bytes(dial.early))
        if dial.finished:
            link.sink.end()

    def _move(self, name: str, pair: _Pair, frame: spdy.Frame) -> None:
        """The client's bytes for a connection, or its end of it."""
        link = pair.link
        if frame.kind == spdy.RST_STREAM:
            self._end(name, pair, "")
        elif isinstance(link, Dial):
            link.early += frame.data
            link.finished |= frame.fin
        elif link is not None:
            link.sink.put(frame.data)
            if frame.fin:
                link.sink.end()
                if not link.source.open:
                    self._end(name, pair, "")

    def _end(self, name: str, pair: _Pair, why: str) -> None:
        """Nothing more of this connection; `why` where it failed."""
        if why:
            self._send(self._encoder.data(pair.error, why.encode()))
            self._send(self._encoder.data(pair.data, b"", fin=True))
        self._send(self._encoder.data(pair.error, b"", fin=True))
        if pair.link is not None:
            pair.link.close()
        self._pairs.pop(name, None)

    def _refused(self, port: int, why: str) -> str:
        place = f'in network namespace "{self._netns}"' if self._netns else "on the host network"
        said = f"failed to connect to localhost:{port} inside namespace: {why}"
        return f"error forwarding port {port} to pod {self._about}: failed to execute portforward {place}: {said}"


def protocol_of(offered: str, *, websocket_upgrade: bool) -> str:
    """The protocol to speak, of those offered; BadRequest where none of them is ours."""
    ours = TUNNEL if websocket_upgrade else PLAIN
    if ours not in [word.strip() for word in offered.split(",")]:
        raise BadRequest(f"unable to upgrade: none of the protocols offered ({offered}) is {ours}")
    return ours


def _waits(pair: _Pair) -> bool:
    """Whether the client must wait for the pod to take what it has sent."""
    if isinstance(pair.link, Dial):
        return len(pair.link.early) > 0
    return pair.link is not None and pair.link.sink.full
