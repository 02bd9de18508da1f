"""The channels of a remote command over one connection: bytes in, events out. No socket.

Over WebSocket (`v5.channel.k8s.io`, `v4.channel.k8s.io`) a message's first byte is its channel; over SPDY each channel
is a stream. Sources: apimachinery `util/remotecommand/constants.go`, `util/httpstream/wsstream`, the kubelet's
`cri/streaming/remotecommand`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from labctl.kube import spdy, websocket

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
SPDY_PROTOCOLS = ("v4.channel.k8s.io",)

_BY_TYPE = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes that came on a channel, or (`data` None) the channel's end."""

    channel: int
    data: bytes | None


class Channels(Protocol):
    """How channels travel; `feed` raises LabError where the peer breaks the protocol."""

    left: bool  # the peer said that it goes

    @property
    def complete(self) -> bool:
        """Whether every channel is there."""
        ...

    def open(self) -> bytes:
        """The first bytes."""
        ...

    def feed(self, data: bytes) -> Iterator[Event]:
        """What arrived; `take_replies` afterwards."""
        ...

    def take_replies(self) -> bytes:
        """Answers that the protocol itself asks for, e.g. to a ping."""
        ...

    def send(self, channel: int, data: bytes) -> bytes:
        """Bytes on a channel."""
        ...

    def finish(self, status: object) -> bytes:
        """The command's Status, and the end."""
        ...


class WebSocketChannels:
    """See the module."""

    def __init__(self, protocol: str, wanted: Sequence[int]) -> None:
        self._closes = protocol.startswith("v5.")
        self._first = min((channel for channel in wanted if channel in {STDOUT, STDERR}), default=ERROR)
        self._decoder = websocket.Decoder(masked=True)
        self._replies = bytearray()
        self._channel = -1
        self.left, self.complete = False, True

    def open(self) -> bytes:
        """An empty message, which tells clients that all is set up."""
        return self.send(self._first, b"")

    def feed(self, data: bytes) -> Iterator[Event]:
        """See `Channels`."""
        for piece in self._decoder.feed(data):
            if piece.opcode == websocket.PING:
                self._replies += websocket.frame(websocket.PONG, piece.data)
            elif piece.opcode == websocket.CLOSE:
                self.left = True
            elif piece.opcode in {websocket.TEXT, websocket.BINARY}:
                yield from self._message(piece)

    def take_replies(self) -> bytes:
        """See `Channels`."""
        found = bytes(self._replies)
        self._replies.clear()
        return found

    def send(self, channel: int, data: bytes) -> bytes:
        """See `Channels`."""
        return websocket.frame(websocket.BINARY, bytes([channel]) + data)

    def finish(self, status: object) -> bytes:
        """See `Channels`."""
        return self.send(ERROR, msgspec.json.encode(status)) + websocket.close_frame()

    def _message(self, piece: websocket.Piece) -> Iterator[Event]:
        data = piece.data
        if piece.first:
            self._channel = -1
        if self._channel < 0 and data:
            self._channel, data = data[0], data[1:]
        if not data:
            return
        if self._channel == CLOSE:
            if self._closes:
                yield Event(data[0], None)
        else:
            yield Event(self._channel, data)


class SpdyChannels:
    """See the module."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self._missing = {*wanted, ERROR}
        self._streams: dict[int, int] = {}  # id of each channel
        self._decoder, self._encoder = spdy.Decoder(), spdy.Encoder()
        self._replies = bytearray()
        self.left = False

    @property
    def complete(self) -> bool:
        """See `Channels`."""
        return not self._missing

    def open(self) -> bytes:
        """See `Channels`."""
        return b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """See `Channels`."""
        for frame in self._decoder.feed(data):
            if frame.kind == spdy.SYN_STREAM:
                self._opened(frame)
            elif frame.kind == spdy.PING and frame.value % 2:
                self._replies += self._encoder.ping(frame.value)
            elif frame.kind == spdy.GOAWAY:
                self.left = True
            elif frame.kind in {0, spdy.RST_STREAM}:
                yield from self._moved(frame)

    def take_replies(self) -> bytes:
        """See `Channels`."""
        found = bytes(self._replies)
        self._replies.clear()
        return found

    def send(self, channel: int, data: bytes) -> bytes:
        """See `Channels`."""
        stream = self._streams.get(channel)
        return b"" if stream is None else self._encoder.data(stream, data)

    def finish(self, status: object) -> bytes:
        """See `Channels`."""
        out = self.send(ERROR, msgspec.json.encode(status))
        for channel in (STDOUT, STDERR, ERROR):
            if channel in self._streams:
                out += self._encoder.data(self._streams[channel], b"", fin=True)
        return out + self._encoder.goaway(max(self._streams.values(), default=0))

    def _opened(self, frame: spdy.Frame) -> None:
        channel = _BY_TYPE.get(frame.headers.get("streamtype", ""))
        if channel is None or channel in self._streams:
            self._replies += self._encoder.rst_stream(frame.stream, spdy.RST_REFUSED)
            return
        self._streams[channel] = frame.stream
        self._missing.discard(channel)
        self._replies += self._encoder.syn_reply(frame.stream)

    def _moved(self, frame: spdy.Frame) -> Iterator[Event]:
        for channel, stream in self._streams.items():
            if stream == frame.stream:
                if frame.data:
                    yield Event(channel, frame.data)
                if frame.fin or frame.kind == spdy.RST_STREAM:
                    yield Event(channel, None)
                return
