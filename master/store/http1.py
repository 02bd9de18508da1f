"""The few pieces of HTTP/1.1 an etcd client reads: a response head, a counted body, a chunked body. No sockets here."""

from __future__ import annotations

from collections.abc import Callable

_HEAD_LIMIT = 64 * 1024


class Body:
    """Cuts a body out of the bytes that follow the head; `length` None means chunked."""

    def __init__(self, length: int | None) -> None:
        self._left = length if length is not None else 0  # of the body, or of the chunk under way
        self._chunked = length is None
        self._line = b""  # the part of a chunk's framing that has come so far
        self._trailer = False
        self.complete = length == 0

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`; ValueError on malformed framing."""
        if not self._chunked:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError("more bytes than announced")
            self.complete = self._left == 0
            return data
        parts: list[bytes] = []
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                self._left -= len(part)
                at += len(part)
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                break
            self._framing((self._line + data[at:end]).strip())
            self._line = b""
            at = end + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _framing(self, line: bytes) -> None:
        """A chunk's size, the empty line after a chunk, or the trailer's lines."""
        if self._trailer:
            self.complete = not line
        elif line:
            self._left = int(line.split(b";", 1)[0], 16)
            self._trailer = self._left == 0


def read_head(more: Callable[[], bytes]) -> tuple[int, Body, bytes]:
    """Read status line and headers: the status, the body to come, and the bytes of it that were read along."""
    data = more()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _HEAD_LIMIT:
            raise ValueError("the response head has no end")
        data += more()
    status_line, *headers = data[:end].split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError(f"not HTTP/1: {status_line[:40]!r}")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in headers)}
    chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
    if not chunked and b"content-length" not in fields:
        raise ValueError("neither a length nor chunks")
    return int(rest[:3]), Body(None if chunked else int(fields[b"content-length"])), data[end + 4 :]
