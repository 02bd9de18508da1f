"""Is the client still there? A watch may have nothing to write for a minute, and writing is how one notices."""

from __future__ import annotations

import socket
from typing import Any

STREAMS: set[Any] = set()  # connections whose answer is a stream that a stop cuts short: logs, exec, port-forward
_ESTABLISHED = 1  # the first byte of Linux's struct tcp_info is the connection's state


class Corked:
    """A client's connection that sends the head of a counted answer together with its body: one TLS record, not two.

    In all else it is the socket.
    """

    leaving = False  # whether the server goes down: answers then tell clients not to use their connections again

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._head = b""
        self._begun = False
        self.recv, self.settimeout = sock.recv, sock.settimeout  # asked for with every request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def begin(self) -> None:
        """What is sent next is the head of an answer."""
        self._begun = True

    def sendall(self, data: bytes) -> None:
        """As a socket's; the head of an answer with a length waits for what follows, or for `flush`."""
        if self._begun:
            self._begun = False
            if Corked.leaving:
                data = data.replace(b"\r\nConnection: keep-alive\r\n", b"\r\nConnection: close\r\n", 1)
            if data.endswith(b"\r\n\r\n") and b"\r\nContent-Length: " in data:
                self._head = data
                return
        elif self._head:
            data, self._head = self._head + data, b""
        self._socket.sendall(data)

    def flush(self) -> None:
        """The answer is over: a head that had no body goes out."""
        self._begun = False
        if self._head:
            data, self._head = self._head, b""
            self._socket.sendall(data)


def connected(sock: Any) -> bool:
    """Whether the peer has neither closed nor reset the connection; True for what is no TCP socket."""
    if sock is None:
        return True
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED)
    except OSError:
        return False
