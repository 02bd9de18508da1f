"""This process's own terminal, given to a channel: raw keys, window sizes passed on, the terminal restored after."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator

import paramiko

_CHUNK = 65_536
_POLL_S = 1.0  # so that a connection lost without a word is noticed by its keepalive


def attach(channel: paramiko.Channel, command: str) -> None:
    """Run `command` ("" for a login shell) on `channel` between our standard streams, until it ends."""
    with _winch() as resized:
        if sys.stdin.isatty() and sys.stdout.isatty():
            size = shutil.get_terminal_size()
            channel.get_pty(os.environ.get("TERM", "xterm"), size.columns, size.lines)
        _start(channel, command)
        with _raw():
            _pump(channel, resized)


def _start(channel: paramiko.Channel, command: str) -> None:
    if command:
        channel.exec_command(command)
    else:
        channel.invoke_shell()


def _pump(channel: paramiko.Channel, resized: int) -> None:
    """Copy both ways until the remote side is done."""
    keys = sys.stdin.fileno()
    waiting: list[paramiko.Channel | int] = [channel, resized, keys]
    while not finished(channel):
        ready = select.select(waiting, [], [], _POLL_S)[0]
        while channel.recv_ready():
            _write(sys.stdout.fileno(), channel.recv(_CHUNK))
        while channel.recv_stderr_ready():
            _write(sys.stderr.fileno(), channel.recv_stderr(_CHUNK))
        if resized in ready:
            os.read(resized, _CHUNK)
            size = shutil.get_terminal_size()
            channel.resize_pty(size.columns, size.lines)
        if keys in ready:
            if typed := os.read(keys, _CHUNK):
                channel.sendall(typed)
            else:
                waiting.remove(keys)
                channel.shutdown_write()


def finished(channel: paramiko.Channel) -> bool:
    """Both streams are at their end and the exit code is known, or the connection is gone."""
    if channel.recv_ready() or channel.recv_stderr_ready():
        return False
    return channel.closed or bool(channel.exit_status_ready() and channel.eof_received)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Keys as they are typed, Ctrl-C included, where we have a terminal; as before afterwards."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _winch() -> Iterator[int]:
    """A descriptor that becomes readable when the window changes its size."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGWINCH, lambda *_: os.write(writing, b"w")) if ours else None
    try:
        yield reading
    finally:
        if ours:
            signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)
