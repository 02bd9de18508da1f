"""What holds the streams of a container with an input: those who attach share it, the input ends with the first."""

from __future__ import annotations

import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kubelet.channels import CLOSE, RESIZE, STDERR, STDIN, STDOUT
from agents.kubelet.holder import SIZE, Frames, Holder, frame
from agents.kubelet.remote_command import Sizes
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for

_ECHO = "import sys\nfor line in sys.stdin:\n  print('got', line, end='', flush=True)\nprint('end', file=sys.stderr)"
_SIZE = "import os, sys\nsys.stdin.readline()\nprint(os.get_terminal_size().lines)"


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40))), st.integers(1, 60))
def test_frames_arrive_whole_however_they_are_cut(sent: list[tuple[int, bytes]], step: int) -> None:
    data, reader = b"".join(frame(channel, piece) for channel, piece in sent), Frames()
    assert [found for at in range(0, len(data), step) for found in reader.feed(data[at : at + step])] == sent


def test_a_frame_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        list(Frames().feed(b"\x00\xff\xff\xff\xff"))


@given(st.integers(1, 40))
def test_sizes_are_read_off_a_stream_of_documents(step: int) -> None:
    data, sizes = b'{"Width":80,"Height":24}\n{"Width":0,"Height":9}nonsense}{"Width":101,"Height":41}', Sizes()
    found = [size for at in range(0, len(data), step) for size in sizes.feed(data[at : at + step])]
    assert found == [SIZE.pack(24, 80, 0, 0), SIZE.pack(41, 101, 0, 0)]


@dataclass
class Client:
    sock: socket.socket
    reader: Frames = field(default_factory=Frames)
    heard: dict[int, bytes] = field(default_factory=dict)

    def say(self, channel: int, data: bytes) -> None:
        self.sock.sendall(frame(channel, data))

    def line(self, channel: int = STDOUT) -> bytes:
        """The next line on a channel; the others' are kept."""
        while b"\n" not in self.heard.get(channel, b""):
            data = self.sock.recv(4096)
            assert data, self.heard
            for number, piece in self.reader.feed(data):
                self.heard[number] = self.heard.get(number, b"") + piece
        line, end, self.heard[channel] = self.heard[channel].partition(b"\n")
        return line + end


class World:
    def __init__(self, folder: Path, script: str, **options: bool) -> None:
        self.path, self.code = folder / "s", -1
        self.holder = Holder(str(self.path), [sys.executable, "-c", script], **options)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.holder.run()

    def client(self) -> Client:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(str(self.path))
        return Client(sock)

    def ended(self) -> bool:
        return not self.thread.is_alive()


def test_everybody_hears_and_the_input_stays_open_for_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, _ECHO, terminal=False, once=False)
    first, second = world.client(), world.client()
    wait_for(lambda: len(world.holder._clients) == 2, what="both", deadline_s=10, clock=SystemClock(), every_s=0.01)
    first.say(STDIN, b"one\n")
    for client in (first, second):
        assert client.line() == b"got one\n"
    first.say(CLOSE, b"")
    first.sock.close()
    second.say(STDIN, b"two\n")
    assert second.line() == b"got two\n"
    assert not world.ended()
    world.holder.process.kill()
    wait_for(world.ended, what="its end", deadline_s=10, clock=SystemClock(), every_s=0.01)


def test_once_the_input_ends_with_the_first_client(tmp_path: Path) -> None:
    world = World(tmp_path, _ECHO, terminal=False, once=True)
    client = world.client()
    client.say(STDIN, b"one\n")
    client.say(CLOSE, b"")
    assert client.line() == b"got one\n"
    assert client.line(STDERR) == b"end\n"
    wait_for(world.ended, what="its end", deadline_s=10, clock=SystemClock(), every_s=0.01)
    assert world.code == 0


def test_a_terminal_takes_the_clients_size(tmp_path: Path) -> None:
    world = World(tmp_path, _SIZE, terminal=True, once=True)
    client = world.client()
    client.say(RESIZE, SIZE.pack(33, 77, 0, 0))
    client.say(STDIN, b"\n")
    assert client.line() == b"33\n"
