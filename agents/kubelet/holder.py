"""`python3 -m agents.kubelet.holder SOCKET FLAGS -- COMMAND`: holds the standard streams of a container with `stdin`.

nerdctl, run in the foreground, carries a container's input and output; somebody must hold the other ends for as long as
the container lives, whatever becomes of the kubelet, and let those in who attach: through a UNIX socket, in frames of
channel, length and bytes. FLAGS: `t` a terminal, `o` the input ends with the first client (`stdinOnce`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from agents.kubelet.channels import CLOSE, RESIZE, STDERR, STDIN, STDOUT
from agents.kubelet.wire import End, Port, Sink, Source, drive

SIZE = struct.Struct("HHHH")  # rows, columns, and two that nobody uses
_FRAME = struct.Struct(">BI")
_FRAME_BYTES = 1 << 20
_CLIENTS = 16
_WORDS_BYTES = 8192  # of the first output, kept for whoever started us
_FOREVER_S = 1_000_000.0  # poll takes no more than 24 days
_FAREWELL_S = 1.0


def frame(channel: int, data: bytes) -> bytes:
    """Bytes on a channel, as they go over the socket."""
    return _FRAME.pack(channel, len(data)) + data


class Frames:
    """Reads one direction of a socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that `data` completes; ValueError where they are none of ours."""
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            channel, size = _FRAME.unpack_from(self._buffer)
            if size > _FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            end = _FRAME.size + size
            if len(self._buffer) < end:
                return
            yield channel, bytes(self._buffer[_FRAME.size : end])
            del self._buffer[:end]


def take_over(file: IO[bytes]) -> int:
    """The descriptor of a pipe's file object, which is closed without it: it would close the number once more."""
    fd = os.dup(file.fileno())
    file.close()
    return fd


def resize(terminal: int, size: bytes, process: subprocess.Popen[bytes]) -> None:
    """Give a terminal its new size (as the ioctl takes it), and tell the process that watches it."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        process.send_signal(signal.SIGWINCH)


@dataclass(slots=True)
class _Client:
    """Somebody who has attached."""

    sock: socket.socket
    sink: Sink
    source: Source | None = None
    frames: Frames = field(default_factory=Frames)
    typed: bool = False  # it has sent input


class Holder:
    """Holds one command's streams until it ends."""

    def __init__(self, path: str, argv: list[str], *, terminal: bool, once: bool) -> None:
        self._once, self._clients = once, list[_Client]()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(_CLIENTS)
        self._listener.setblocking(False)
        self.pending = False
        self._quiet_bytes = 0
        self._terminal = -1
        if terminal:
            self._terminal, inner = os.openpty()
            tty.setraw(inner)
            self.process = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
            os.close(inner)
            self._stdin = Sink(os.dup(self._terminal))
            self._outputs = [self._output(os.dup(self._terminal), STDOUT)]
        else:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self._stdin = Sink(take_over(self.process.stdin))
            self._outputs = [
                self._output(take_over(self.process.stdout), STDOUT),
                self._output(take_over(self.process.stderr), STDERR),
            ]

    @property
    def fd(self) -> int:
        """See `Port`: the listening socket."""
        return self._listener.fileno()

    def wants(self) -> int:
        """See `Port`."""
        return select.POLLIN if len(self._clients) < _CLIENTS else 0

    def ready(self) -> None:
        """See `Port`: somebody attaches."""
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            client = _Client(sock, Sink(os.dup(sock.fileno())))
            client.source = Source(os.dup(sock.fileno()), lambda data: self._heard(client, data), self._has_room)
            self._clients.append(client)

    def run(self) -> int:
        """Serve until the command has ended and all that it said is handed on; its exit code."""
        end = End(os.pidfd_open(self.process.pid))
        ports: tuple[Port, ...] = (self, end, self._stdin, *self._outputs)

        def everything() -> Iterator[Port]:
            yield from ports
            yield from self._sides()

        def over() -> bool:
            return end.ended and self._drained()

        while not over():
            drive(everything, over=over, idle_s=_FOREVER_S)
        drive(self._sides, over=lambda: not any(one.sink.wants() for one in self._clients), idle_s=_FAREWELL_S)
        return self.process.wait()

    def _sides(self) -> Iterator[Port]:
        for client in self._clients:
            yield client.sink
            if client.source is not None:
                yield client.source

    def _output(self, fd: int, channel: int) -> Source:
        """What the command says goes to everybody who is there; the slowest sets the pace, as upstream."""

        def give(data: bytes) -> None:
            if self._quiet_bytes < _WORDS_BYTES and not self._clients:  # nerdctl's own words, where it fails to start
                self._quiet_bytes += len(data)
                os.write(2, data)
            for client in self._clients:
                if data:
                    client.sink.put(frame(channel, data))

        return Source(fd, give, lambda: not any(client.sink.full for client in self._clients))

    def _drained(self) -> bool:
        return not any(output.open for output in self._outputs)

    def _has_room(self) -> bool:
        return not self._stdin.full

    def _heard(self, client: _Client, data: bytes) -> None:
        try:
            for channel, piece in client.frames.feed(data):
                self._act(client, channel, piece)
        except ValueError:
            data = b""
        if not data:  # it has left
            self._clients.remove(client)
            client.sink.close()
            if client.source is not None:
                client.source.close()
            client.sock.close()
            if client.typed and self._once:
                self._end_input()

    def _act(self, client: _Client, channel: int, piece: bytes) -> None:
        if channel == STDIN:
            client.typed = True
            self._stdin.put(piece)
        elif channel == CLOSE and self._once:
            self._end_input()
        elif channel == RESIZE and self._terminal >= 0 and len(piece) == SIZE.size:
            resize(self._terminal, piece, self.process)

    def _end_input(self) -> None:
        if self._terminal < 0:
            self._stdin.end()


def main() -> int:
    """See the module."""
    path, flags, dashes, *argv = sys.argv[1:]
    assert dashes == "--"
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return Holder(path, argv, terminal="t" in flags, once="o" in flags).run()


if __name__ == "__main__":
    sys.exit(main())
