"""One `exec` or `attach` over one connection: what the client sends goes in, what the command says comes out.

A command runs under `runc exec`, whose own terminal (for `-t`) is ours: a new size reaches it by SIGWINCH, and it hands
it on to the container's. It does not outlive its client. Source: `k8s.io/cri-streaming/pkg/streaming/remotecommand`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agents.kubelet.channels import RESIZE, STDERR, STDIN, STDOUT, Channels, Event
from agents.kubelet.holder import SIZE, resize, take_over
from agents.kubelet.processes import open_process, send
from agents.kubelet.wire import End, Port, Sink, Source, Wire, drive
from labctl.kube.errors import BadRequest, ServerError
from labctl.runtime.errors import LabError
from labctl.runtime.shell import at_usual_priority

IDLE_S = 4 * 3600.0  # upstream's streamingConnectionIdleTimeout
STREAMS_S = 30.0  # upstream's streamCreationTimeout
_START_TICK_S = 0.02
_KILL_TRIES, _KILL_WAIT_S = 4, 0.5
_KILLED_S = 10.0
_EARLY_EVENTS = 64
_WORDS_BYTES = 4096
_SIZE_BYTES = 1024

SUCCESS: Mapping[str, Any] = {"metadata": {}, "status": "Success"}


class _Size(msgspec.Struct, frozen=True):
    """A terminal's size, as clients send it."""

    width: int = msgspec.field(name="Width", default=0)
    height: int = msgspec.field(name="Height", default=0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Their channels."""
        flags = ((STDIN, self.stdin), (STDOUT, self.stdout), (STDERR, self.stderr), (RESIZE, self.tty))
        return tuple(channel for channel, asked in flags if asked)


def wanted(query: Mapping[str, str]) -> Wanted:
    """From the kubelet's own query; BadRequest where no stream is asked for. A terminal has one output."""
    asked = {name: query.get(name) in {"1", "true"} for name in ("input", "output", "error", "tty")}
    if not (asked["input"] or asked["output"] or asked["error"]):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return Wanted(asked["input"], asked["output"], asked["error"] and not asked["tty"], asked["tty"])


class Sizes:
    """Reads a terminal's sizes off the resize channel, where JSON documents follow each other."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Each size that `data` completes, as the ioctl takes it; what is none is passed over."""
        *whole, self._rest = (self._rest + data)[-_SIZE_BYTES:].split(b"}")
        for text in whole:
            with contextlib.suppress(msgspec.MsgspecError):
                size = msgspec.json.decode(text.strip() + b"}", type=_Size)
                if 0 < size.width < 65536 and 0 < size.height < 65536:
                    yield SIZE.pack(size.height, size.width, 0, 0)


class Session:
    """The client's side: its channels over its connection; `heard` gets what comes in."""

    def __init__(self, sock: ssl.SSLSocket, channels: Channels) -> None:
        self._channels = channels
        self._early: list[Event] = []
        self._hear: Callable[[Event], None] = self._early.append
        self._has_room: Callable[[], bool] = lambda: len(self._early) < _EARLY_EVENTS
        self.wire = Wire(sock, self._take, self._room)
        self.wire.send(channels.open())

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self.wire.ended or self._channels.left

    def await_streams(self) -> bool:
        """Wait until every channel is there; False where they don't come."""
        done = lambda: self.gone or self._channels.complete  # noqa: E731
        drive(lambda: (self.wire,), over=done, idle_s=STREAMS_S)
        return self._channels.complete and not self.gone

    def listen(self, hear: Callable[[Event], None], has_room: Callable[[], bool]) -> None:
        """From now on what comes in goes to `hear`, as long as there is room."""
        self._hear, self._has_room = hear, has_room
        for event in self._early:
            hear(event)
        self._early.clear()

    def say(self, channel: int, data: bytes) -> None:
        """Bytes to the client."""
        if data:
            self.wire.send(self._channels.send(channel, data))

    def finish(self, status: Mapping[str, Any]) -> None:
        """Tell how it went, and part."""
        if not self.gone:
            self.wire.send(self._channels.finish(status))
        self.wire.finish()

    def _room(self) -> bool:
        return self._has_room()

    def _take(self, data: bytes) -> None:
        try:
            for event in self._channels.feed(data):
                self._hear(event)
        except LabError:
            self.wire.ended = True  # it does not speak the protocol
        self.wire.send(self._channels.take_replies())


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a container: `line` makes the whole command line for a file that gets its pid."""

    container_id: str
    argv: Sequence[str]
    line: Callable[[Path], Sequence[str]]
    pid_file: Path


class Exec:
    """Runs a command for a session. `run` blocks until either ends."""

    def __init__(self, session: Session, asked: Wanted, command: Command) -> None:
        self._session, self._asked, self._command = session, asked, command
        self._sources: list[Source] = []
        self._stdin: Sink | None = None
        self._terminal = -1  # our end of its terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self._sizes = Sizes()

    def run(self) -> None:
        """See the class."""
        session = self._session
        if not session.await_streams():
            session.wire.finish()
            return
        try:
            session.finish(self._status())
        finally:
            self._command.pid_file.unlink(missing_ok=True)
            for source in self._sources:
                source.close()
            if self._stdin is not None:
                self._stdin.close()
            if self._terminal >= 0:
                os.close(self._terminal)

    def _status(self) -> Mapping[str, Any]:
        """Start the command, serve it until it ends or the client leaves; its Status."""
        process = self._process = self._start()
        session = self._session
        end = End(os.pidfd_open(process.pid))
        try:
            session.listen(self._hear, lambda: self._stdin is None or not self._stdin.full)
            ports: tuple[Port, ...] = (session.wire, end, *self._sources, *([self._stdin] if self._stdin else []))
            starting = lambda: session.gone or end.ended or self._command.pid_file.exists()  # noqa: E731
            drive(lambda: ports, over=starting, idle_s=IDLE_S, tick_s=_START_TICK_S)
            if end.ended and not self._command.pid_file.exists():
                return self._not_started()
            self._started = True
            drive(lambda: ports, over=lambda: session.gone or (end.ended and self._drained()), idle_s=IDLE_S)
        finally:
            os.close(end.fd)
            if not end.ended:
                self._kill()
        return exit_status(self._command.argv, process.wait(_KILLED_S))

    def _start(self) -> subprocess.Popen[bytes]:
        asked, line = self._asked, at_usual_priority(self._command.line(self._command.pid_file))
        if asked.tty:
            self._terminal, inner = os.openpty()
            try:
                process = subprocess.Popen(line, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
            finally:
                os.close(inner)
            if asked.stdin:
                self._stdin = Sink(os.dup(self._terminal))
            self._add(os.dup(self._terminal), STDOUT)
            return process
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(
            line,
            stdin=pipe if asked.stdin else none,
            stdout=pipe if asked.stdout else none,
            stderr=pipe,
            start_new_session=True,
        )
        if process.stdin is not None:
            self._stdin = Sink(take_over(process.stdin))
        if process.stdout is not None:
            self._add(take_over(process.stdout), STDOUT)
        assert process.stderr is not None
        self._add(take_over(process.stderr), STDERR)
        return process

    def _add(self, fd: int, channel: int) -> None:
        """Pass on what comes out; nothing is read before the command has started: until then runc itself speaks."""
        session, shown = self._session, channel in self._asked.channels
        give = (lambda data: session.say(channel, data)) if shown else (lambda _: None)
        self._sources.append(Source(fd, give, lambda: self._started and not session.wire.full))

    def _drained(self) -> bool:
        return not any(source.open for source in self._sources)

    def _hear(self, event: Event) -> None:
        if event.channel == STDIN and self._stdin is not None:
            if event.data is not None:
                self._stdin.put(event.data)
            elif not self._asked.tty:
                self._stdin.end()
        elif event.channel == RESIZE and event.data is not None and self._process is not None:
            for size in self._sizes.feed(event.data):
                if self._terminal >= 0:
                    resize(self._terminal, size, self._process)

    def _not_started(self) -> Mapping[str, Any]:
        """runc could not start it, and has said why where the command's own words would have been."""
        words = b""
        for source in self._sources:
            with contextlib.suppress(OSError):
                words += os.read(source.fd, _WORDS_BYTES)
        assert self._process is not None
        self._process.wait(_KILLED_S)
        return failed(f"OCI runtime exec failed: {runc_message(words.decode(errors='replace'))}")

    def _kill(self) -> None:
        """End the command with its client; runc follows."""
        assert self._process is not None
        for _ in range(_KILL_TRIES):  # it may be just starting
            with contextlib.suppress(OSError, ValueError):
                pid = int(self._command.pid_file.read_text(encoding="ascii"))
                fd = open_process(pid, cgroup_word=self._command.container_id)
                if fd >= 0:
                    send(fd, signal.SIGKILL)
                    os.close(fd)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_WAIT_S)
                return
        self._process.kill()


def exit_status(argv: Sequence[str], code: int) -> Mapping[str, Any]:
    """The Status of a command that has ended."""
    if code == 0:
        return SUCCESS
    said = f"error executing command [{' '.join(argv)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {said}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(why: str) -> Mapping[str, Any]:
    """The Status of a command that could not be run."""
    said = f"error executing command in container: {why}"
    return ServerError(f"Internal error occurred: {said}", details={"causes": [{"message": said}]}).to_status()


def runc_message(text: str) -> str:
    """The last message among runc's words, which come as log lines or plainly."""
    lines = [line.strip() for line in text.replace("\r", "").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    if 'msg="' in last:
        last = last.partition('msg="')[2].rstrip('"').replace('\\"', '"')
    return last
