"""WebSocket framing (RFC 6455) as a codec: bytes in, pieces out. No socket, no clock; both ends of a stream may use it.

Payloads are handed on as they arrive, so that a message of any size costs no more memory than what was read at once.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from labctl.runtime.errors import LabError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL, GOING_AWAY, PROTOCOL_ERROR, INTERNAL_ERROR = 1000, 1001, 1002, 1011

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL_BYTES = 125


class WebSocketError(LabError):
    """The peer broke the protocol; `code` is what a close frame tells it."""

    code = PROTOCOL_ERROR


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message (`opcode` TEXT or BINARY), or a whole control frame (CLOSE, PING, PONG)."""

    opcode: int
    data: bytes
    first: bool = True  # the message begins here
    last: bool = True  # and ends here


def accept(key: str) -> str:
    """What `Sec-WebSocket-Accept` must be for a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def frame(opcode: int, payload: bytes, *, mask: bytes = b"", final: bool = True) -> bytes:
    """One frame; a client gives a `mask` of four random bytes, a server none."""
    size = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    marked = 0x80 if mask else 0
    if size < 126:
        head += bytes([marked | size])
    elif size < 0x10000:
        head += struct.pack(">BH", marked | 126, size)
    else:
        head += struct.pack(">BQ", marked | 127, size)
    return head + mask + (_xor(payload, mask, 0) if mask else payload)


def close_frame(code: int = NORMAL, reason: str = "", *, mask: bytes = b"") -> bytes:
    """The frame that ends a conversation."""
    return frame(CLOSE, struct.pack(">H", code) + reason.encode()[: _CONTROL_BYTES - 2], mask=mask)


class Decoder:
    """Reads one direction of a connection; `masked` says whether frames must be masked (a server) or must not."""

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._buffer = bytearray()
        self._opcode = 0  # of the message under way; 0 between messages
        self._frame = 0  # opcode of the frame whose payload is arriving; a continuation counts as its message
        self._left = -1  # bytes of that payload to come; -1 between frames
        self._size = 0
        self._mask = b""
        self._final = self._first = True

    def feed(self, data: bytes) -> Iterator[Piece]:
        """What `data` completes. WebSocketError ends the connection: nothing is to be fed after it."""
        self._buffer += data
        while True:
            if self._left < 0 and not self._head():
                return
            if self._frame >= CLOSE:
                if len(self._buffer) < self._left:
                    return
            elif self._left and not self._buffer:
                return
            yield self._take()

    def _head(self) -> bool:
        """Read a frame's head if it is all there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        opcode, size = buffer[0] & 0x0F, buffer[1] & 0x7F
        self._check(buffer[0], buffer[1])
        extra = {126: 2, 127: 8}.get(size, 0)
        length = 2 + extra + (4 if self._masked else 0)
        if len(buffer) < length:
            return False
        if extra:
            size = int.from_bytes(buffer[2 : 2 + extra], "big")
            if size >> 63:
                raise WebSocketError("a frame's length has its top bit set")
        self._mask = bytes(buffer[2 + extra : length])
        self._final = bool(buffer[0] & 0x80)
        self._first = opcode != CONTINUATION
        if opcode in {TEXT, BINARY}:
            self._opcode = opcode
        self._frame = opcode or self._opcode
        self._left = self._size = size
        del buffer[:length]
        return True

    def _check(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise WebSocketError("reserved bits are set: no extension was agreed on")
        if opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
            raise WebSocketError(f"opcode {opcode} is not defined")
        if bool(second & 0x80) != self._masked:
            raise WebSocketError("a client's frames must be masked, a server's must not")
        if opcode >= CLOSE:
            if not first & 0x80 or second & 0x7F > _CONTROL_BYTES:
                raise WebSocketError("a control frame is fragmented or longer than 125 bytes")
        elif (opcode == CONTINUATION) != bool(self._opcode):
            raise WebSocketError("a message begins within another, or continues none")

    def _take(self) -> Piece:
        count = min(self._left, len(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        done = self._size - self._left
        if self._masked:
            data = _xor(data, self._mask, done)
        self._left -= count
        over = self._left == 0
        piece = Piece(self._frame, data, self._first and done == 0, over and self._final)
        if over:
            self._left = -1
            if self._final and self._frame < CLOSE:
                self._opcode = 0
        return piece


def _xor(data: bytes, mask: bytes, offset: int) -> bytes:
    """`data` under the mask, whose first byte belongs to the payload's byte 0 and `data` begins at `offset`."""
    if not data:
        return data
    turn = offset % 4
    pattern = ((mask[turn:] + mask[:turn]) * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(len(data), "little")
