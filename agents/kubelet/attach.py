"""`attach`: what a running container says from now on, until it ends or the client leaves; and its input."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from agents.kubelet import logs
from agents.kubelet.channels import CLOSE, RESIZE, STDERR, STDIN, STDOUT, Event
from agents.kubelet.holder import Frames, frame
from agents.kubelet.remote_command import IDLE_S, SUCCESS, Session, Sizes, Wanted
from agents.kubelet.wire import End, Sink, Source, drive

_TICK_S = 0.1


class Attach:
    """Follows a container's log for a session. `run` blocks until either ends; `end` is the container's."""

    def __init__(self, session: Session, asked: Wanted, log_path: Path, end: End) -> None:
        self._session, self._asked, self._end = session, asked, end
        self._log = logs.Follower.from_now(log_path)

    def run(self) -> None:
        """See the class."""
        session = self._session
        if session.await_streams():
            session.listen(lambda _: None, lambda: True)
            drive(lambda: (session.wire, self._end), over=self._over, idle_s=IDLE_S, tick_s=_TICK_S)
        session.finish(SUCCESS)

    def _over(self) -> bool:
        """Asked every tick: hand on what there is; the container's last words come before its end."""
        over = self._end.ended or self._session.gone
        if not self._session.wire.full:
            for entry in self._log.entries():
                channel = STDERR if entry.stream == "stderr" else STDOUT
                if channel in self._asked.channels:
                    self._session.say(channel, entry.log.encode())
        return over


class AttachHeld:
    """Joins a session to the holder of a container's streams. `run` blocks until either ends; it closes `sock`."""

    def __init__(self, session: Session, asked: Wanted, sock: socket.socket) -> None:
        self._session, self._asked, self._sock = session, asked, sock
        self._frames, self._sizes = Frames(), Sizes()
        self._source = Source(os.dup(sock.fileno()), self._said, lambda: not session.wire.full)
        self._sink = Sink(os.dup(sock.fileno()))

    def run(self) -> None:
        """See the class."""
        session, source, sink = self._session, self._source, self._sink
        try:
            if session.await_streams():
                session.listen(self._hear, lambda: not sink.full)
                over = lambda: session.gone or not source.open  # noqa: E731
                drive(lambda: (session.wire, source, sink), over=over, idle_s=IDLE_S)
            session.finish(SUCCESS)
        finally:
            source.close()
            sink.close()
            self._sock.close()

    def _said(self, data: bytes) -> None:
        for channel, piece in self._frames.feed(data):
            if channel in self._asked.channels:
                self._session.say(channel, piece)

    def _hear(self, event: Event) -> None:
        if event.channel == STDIN and self._asked.stdin:
            self._sink.put(frame(CLOSE, b"") if event.data is None else frame(STDIN, event.data))
        elif event.channel == RESIZE and event.data is not None:
            for size in self._sizes.feed(event.data):
                self._sink.put(frame(RESIZE, size))
