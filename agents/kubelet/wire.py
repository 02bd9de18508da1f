"""One upgraded connection and what it is joined to, driven by poll in the connection's own thread.

One thread reads and writes a connection: OpenSSL's objects bear no second one. Nothing here blocks but the poll itself,
and nothing is read that there is no room to hand on, so that either end's slowness reaches the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Protocol

ROOM_BYTES = 256 * 1024  # held for a slow reader, for each direction of each stream
_BLOCK = 32 * 1024
_FAREWELL_MS = 2_000  # given to the peer to take our last bytes


class Port(Protocol):
    """Something with a descriptor that the loop waits on."""

    @property
    def fd(self) -> int:
        """The descriptor."""
        ...

    @property
    def pending(self) -> bool:
        """Whether there is something to do that poll cannot see."""
        ...

    def wants(self) -> int:
        """Poll's events to wait for; 0 for none now."""
        ...

    def ready(self) -> None:
        """Do what can be done without blocking."""
        ...


def drive(
    ports: Callable[[], Iterable[Port]], *, over: Callable[[], bool], idle_s: float, tick_s: float | None = None
) -> None:
    """Serve the ports until `over`, or until nothing has happened for `idle_s`. `over` is asked every `tick_s`, too."""
    quiet_s = 0.0
    while not over():
        poll, waiting, at_once = select.poll(), {}, []
        for port in ports():
            if mask := port.wants():
                poll.register(port.fd, mask)
                waiting[port.fd] = port
            if port.pending:
                at_once.append(port)
        wait_s = 0.0 if at_once else (idle_s - quiet_s if tick_s is None else tick_s)
        events = poll.poll(max(0.0, wait_s) * 1000)
        if not events and not at_once:
            quiet_s += wait_s
            if quiet_s >= idle_s:
                return
            continue
        quiet_s = 0.0
        for port in at_once:
            port.ready()
        for fd, _ in events:
            if waiting[fd] not in at_once:
                waiting[fd].ready()


class Wire:
    """The connection: gives what it reads to `take` while there is `room`, and sends what it is given."""

    def __init__(self, sock: ssl.SSLSocket, take: Callable[[bytes], None], room: Callable[[], bool]) -> None:
        self._sock, self._take, self._room = sock, take, room
        self._out = bytearray()
        self.ended = False  # the peer closed it, or it broke
        sock.setblocking(False)

    @property
    def fd(self) -> int:
        """See `Port`."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """See `Port`: what OpenSSL has read already."""
        return not self.ended and self._sock.pending() > 0 and self._room()

    @property
    def full(self) -> bool:
        """Whether the peer is slow: give it no more for now."""
        return len(self._out) >= ROOM_BYTES

    def send(self, data: bytes) -> None:
        """Send, soon."""
        if not self.ended:
            self._out += data

    def wants(self) -> int:
        """See `Port`."""
        if self.ended:
            return 0
        return (select.POLLIN if self._room() else 0) | (select.POLLOUT if self._out else 0)

    def ready(self) -> None:
        """See `Port`."""
        try:
            self._flush()
            while self._room():
                data = self._sock.recv(_BLOCK)
                if not data:
                    self.ended = True
                    return
                self._take(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.ended = True

    def finish(self) -> None:
        """Send what is left, and see the peer off, so that the last bytes are not lost to a reset."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        with contextlib.suppress(OSError):
            while self._out and not self.ended:
                if not poll.poll(_FAREWELL_MS):
                    return
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    self._flush()
            self._sock.shutdown(socket.SHUT_WR)
            poll.modify(self._sock, select.POLLIN)
            while not self.ended and poll.poll(_FAREWELL_MS):
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    self.ended = not self._sock.recv(_BLOCK)

    def _flush(self) -> None:
        while self._out:
            with memoryview(self._out) as view:
                sent = self._sock.send(view[:_BLOCK])
            del self._out[:sent]


class Source:
    """A descriptor that is read while there is `room`; `give(b"")` tells its end. Closes it."""

    def __init__(self, fd: int, give: Callable[[bytes], None], room: Callable[[], bool]) -> None:
        self.fd, self._give, self._room = fd, give, room
        self.open, self.pending = True, False
        os.set_blocking(fd, False)

    def wants(self) -> int:
        """See `Port`."""
        return select.POLLIN if self.open and self._room() else 0

    def ready(self) -> None:
        """See `Port`."""
        if not self.open:  # closed since the poll: the number may be another's by now
            return
        try:
            data = os.read(self.fd, _BLOCK)
        except BlockingIOError:
            return
        except OSError:  # what a terminal says when the other side is gone
            data = b""
        if not data:
            self.close()
        self._give(data)

    def close(self) -> None:
        """Read no more."""
        if self.open:
            self.open = False
            os.close(self.fd)


class Sink:
    """A descriptor that is written as it takes it. Closes it."""

    def __init__(self, fd: int) -> None:
        self.fd, self.open, self.pending = fd, True, False
        self._out = bytearray()
        self._last = False
        os.set_blocking(fd, False)

    @property
    def full(self) -> bool:
        """Whether the reader is slow."""
        return len(self._out) >= ROOM_BYTES

    @property
    def ending(self) -> bool:
        """Whether no more comes than what is held."""
        return self._last or not self.open

    def put(self, data: bytes) -> None:
        """Write, soon; what nobody reads any more is dropped."""
        if self.open and not self._last:
            self._out += data

    def end(self) -> None:
        """Close once all is written."""
        self._last = True
        if not self._out:
            self.close()

    def wants(self) -> int:
        """See `Port`."""
        return select.POLLOUT if self.open and self._out else 0

    def ready(self) -> None:
        """See `Port`."""
        if not self.open:
            return
        try:
            while self._out:
                del self._out[: os.write(self.fd, self._out)]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self.close()
        if self._last:
            self.close()

    def close(self) -> None:
        """Write no more."""
        self._out.clear()
        if self.open:
            self.open = False
            os.close(self.fd)


class End:
    """The end of the process behind a pidfd, which it closes."""

    def __init__(self, fd: int) -> None:
        self.fd, self.pending, self.ended = fd, False, False

    def wants(self) -> int:
        """See `Port`."""
        return 0 if self.ended else select.POLLIN

    def ready(self) -> None:
        """See `Port`."""
        self.ended = True
