"""Connections to a port inside a pod's network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import threading
from collections.abc import Callable

from agents.kubelet.wire import Port

_CLONE_NEWNET = 0x40000000
_PLACES = ((socket.AF_INET, "127.0.0.1", "tcp4 127.0.0.1"), (socket.AF_INET6, "::1", "tcp6 [::1]"))


class Dial:
    """A connection being made to the pod's localhost, by IPv4 and then by IPv6."""

    def __init__(self, port: int, netns: str, done: Callable[[socket.socket | None, str], None]) -> None:
        self._port, self._netns, self._done = port, netns, done
        self._left = list(_PLACES)
        self._said: list[str] = []
        self._what = ""
        self._sock: socket.socket | None = None
        self.early = bytearray()  # the client's bytes meanwhile
        self.finished = False  # the client's side has ended
        self.pending = False

    @property
    def fd(self) -> int:
        """See `Port`."""
        assert self._sock is not None
        return self._sock.fileno()

    @property
    def ports(self) -> tuple[Port, ...]:
        """Itself, while it waits."""
        return (self,)

    def wants(self) -> int:
        """See `Port`."""
        return select.POLLOUT

    def begin(self) -> None:
        """Try the next address."""
        if not self._left:
            self._done(None, " ".join(self._said))
            return
        family, host, shown = self._left.pop(0)
        version = "IPv4:" if family == socket.AF_INET else "IPv6"
        try:
            self._sock = socket_in(self._netns, family)
            self._sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._sock.connect((host, self._port))
        except OSError as error:
            self._failed(f"{version} dial {shown}:{self._port}: connect: {(error.strerror or str(error)).lower()}")
            return
        self._what = f"{version} dial {shown}:{self._port}: connect: "

    def ready(self) -> None:
        """See `Port`."""
        if self._sock is None:  # closed since the poll
            return
        if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed(self._what + os.strerror(code).lower())
        else:
            sock, self._sock = self._sock, None
            self._done(sock, "")

    def close(self) -> None:
        """Give up."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _failed(self, said: str) -> None:
        self.close()
        self._said.append(said)
        self.begin()


def socket_in(netns: str, family: socket.AddressFamily) -> socket.socket:
    """A TCP socket that lives in a network namespace, given by its path ("" for ours).

    A namespace is a thread's: one that was made for this enters it, opens the socket, and ends.
    """
    if not netns:
        return socket.socket(family, socket.SOCK_STREAM)
    found: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(fd)
            found.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=enter, name="netns", daemon=True)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
