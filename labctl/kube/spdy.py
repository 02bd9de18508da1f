"""SPDY/3.1 framing as a codec: bytes in, frames out. What `kubectl port-forward` speaks inside its WebSocket.

As upstream's library (moby/spdystream) it sends no window updates and heeds none: the connection's own flow control
has to do. Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl.runtime.errors import LabError

FIN = 0x01
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
RST_PROTOCOL_ERROR, RST_INVALID_STREAM, RST_REFUSED, RST_CANCEL = 1, 2, 3, 5

_VERSION = 0x8003
_HEAD = struct.Struct(">I4s")
_CONTROL_BYTES = 64 * 1024  # the longest control frame taken
_HEADERS_BYTES = 64 * 1024  # of a header block once inflated
_STREAM = 0x7FFFFFFF

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)


def _sized(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


# What both ends' compressors know beforehand: section 2.6.10.1 of the draft.
DICTIONARY = (
    b"".join(_sized(word) for word in (*_WORDS.split(), "200 OK", "version", "HTTP/1.1", "url", "public"))
    + b"".join(_sized(word) for word in ("set-cookie", "keep-alive", "origin"))
    + _TAIL.encode()
)


class SpdyError(LabError):
    """The peer broke the protocol; the connection is to be closed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. `kind` 0 is data: `data` may be a part of what the peer sent as one frame.

    `value`: the status of RST_STREAM and GOAWAY, the id of PING (its stream is 0).
    """

    kind: int
    stream: int = 0
    fin: bool = False
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    value: int = 0


class Decoder:
    """Reads one direction of a connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._stream = 0  # of the data frame under way
        self._left = 0  # its bytes to come
        self._fin = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; SpdyError ends the connection."""
        self._buffer += data
        while True:
            if self._left:
                if not self._buffer:
                    return
                yield self._data()
                continue
            if len(self._buffer) < 8:
                return
            head, rest = _HEAD.unpack_from(self._buffer)
            flags, size = rest[0], int.from_bytes(rest[1:], "big")
            if not head >> 31:
                del self._buffer[:8]
                self._stream, self._left, self._fin = head, size, bool(flags & FIN)
                if not size:
                    yield Frame(0, head, self._fin)
                continue
            if head >> 16 != _VERSION:
                raise SpdyError(f"SPDY version {(head >> 16) & 0x7FFF} is not spoken here")
            if size > _CONTROL_BYTES:
                raise SpdyError(f"a control frame of {size} bytes")
            if len(self._buffer) < 8 + size:
                return
            payload = bytes(self._buffer[8 : 8 + size])
            del self._buffer[: 8 + size]
            yield self._control(head & 0xFFFF, bool(flags & FIN), payload)

    def _data(self) -> Frame:
        count = min(self._left, len(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._left -= count
        return Frame(0, self._stream, self._fin and not self._left, data)

    def _control(self, kind: int, fin: bool, payload: bytes) -> Frame:
        skipped = {SYN_STREAM: 10, SYN_REPLY: 4, HEADERS: 4}.get(kind)
        try:
            if skipped is not None:
                stream = struct.unpack_from(">I", payload)[0] & _STREAM
                return Frame(kind, stream, fin, headers=self._headers(payload[skipped:]))
            if kind in {RST_STREAM, GOAWAY, WINDOW_UPDATE}:
                stream, value = struct.unpack(">II", payload)
                return Frame(kind, stream & _STREAM, value=value)
            if kind == PING:
                return Frame(kind, value=struct.unpack(">I", payload)[0])
        except struct.error as error:
            raise SpdyError(f"a control frame of type {kind} is cut short") from error
        return Frame(kind, data=payload)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, _HEADERS_BYTES)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be inflated: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError("a header block is too large")
        (count,) = struct.unpack_from(">I", plain)
        at, found = 4, {}
        for _ in range(count):
            pair = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", plain, at)
                if at + 4 + size > len(plain):
                    raise SpdyError("a header is cut short")
                pair.append(plain[at + 4 : at + 4 + size].decode("latin-1"))
                at += 4 + size
            found[pair[0].lower()] = pair[1]
        return found


class Encoder:
    """Writes one direction of a connection; frames with headers must go out in the order they were made."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """Open a stream: odd numbers are a client's."""
        return self._control(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._headers(headers), fin=fin)

    def syn_reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        """Accept a stream."""
        return self._control(SYN_REPLY, struct.pack(">I", stream) + self._headers(headers or {}))

    def rst_stream(self, stream: int, status: int) -> bytes:
        """End a stream at once."""
        return self._control(RST_STREAM, struct.pack(">II", stream, status))

    def ping(self, identity: int) -> bytes:
        """Ask, or answer with the same id."""
        return self._control(PING, struct.pack(">I", identity))

    def goaway(self, last_stream: int) -> bytes:
        """No stream beyond `last_stream` is served."""
        return self._control(GOAWAY, struct.pack(">II", last_stream, 0))

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> bytes:
        """Bytes of a stream; with `fin` its end in this direction."""
        return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(data)) + data

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        plain += b"".join(_sized(name.lower()) + _sized(value) for name, value in headers.items())
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _control(self, kind: int, payload: bytes, *, fin: bool = False) -> bytes:
        return struct.pack(">HHI", _VERSION, kind, (FIN if fin else 0) << 24 | len(payload)) + payload
