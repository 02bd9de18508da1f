"""A TCP relay for tests, between a client and a server: cut its connections, refuse new ones, or swallow everything."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Relays loopback `port` to `target`. Use as a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._refusing = False
        self._answers = threading.Event()  # set: bytes flow back to clients
        self._requests = threading.Event()  # set: bytes flow to the server
        self._answers.set()
        self._requests.set()
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _hang_up(pair)
        return len(pairs)

    def refuse(self, yes: bool = True) -> None:
        """Hang up on whoever connects, or no longer."""
        self._refusing = yes

    def swallow(self, *, requests: bool = False, answers: bool = False) -> None:
        """Hold back bytes in these directions, until called again."""
        for event, held in ((self._requests, requests), (self._answers, answers)):
            event.clear() if held else event.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.swallow()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), timeout=2)
                    server.settimeout(None)
                except OSError:
                    client.close()
                    continue
                if self._refusing:
                    _hang_up((client, server))
                    continue
                self._pairs.append((client, server))
                for source, sink, flows in ((client, server, self._requests), (server, client, self._answers)):
                    threading.Thread(target=_relay, args=(source, sink, flows), daemon=True).start()


def _relay(source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            flows.wait(60)
            sink.sendall(data)
    _hang_up((source, sink))


def _hang_up(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
