"""etcd's JSON gateway over HTTP/1.1: pooled keep-alive connections, deadlines, several endpoints, one streaming watch.

It knows nothing of keys and revisions; `connection.py` has the HTTP.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import msgspec

from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff
from master.store.connection import Connection, Silent, Stream, Tls
from master.store.http1 import read_head
from master.store.protocol import Refused, StoreError

_IDLE_CONNECTIONS, _CONCURRENT_CALLS = 32, 128
DEADLINE_S = 30.0  # a call's, where etcd is there but slow: upstream leaves it the whole request's 60 s
_UNREACHABLE_S = 10.0  # a call's, where no endpoint can be reached
_HOME_EVERY_S, _HOME_S = 5.0, 1.0  # how often the first endpoint is asked again after it failed, and how long it has
_READ = "/v3/kv/range"  # without an effect, so that it may be tried on an endpoint in doubt
_FULL = (
    "delete what nobody needs, wait 10 minutes for its history to go, "
    "then `etcdctl defrag` on each master and `etcdctl alarm disarm` on one"
)


class Lost(StoreError):
    """The request may have reached etcd, but no answer came back."""


class EtcdError(Refused):
    """etcd answered with an error; `code` is gRPC's, `text` etcd's. The request had no effect."""

    def __init__(self, text: str, code: int) -> None:
        hint = _FULL if "space exceeded" in text else ""
        super().__init__(f"etcd: {text}", too_large="too large" in text or "larger than max" in text, hint=hint)
        self.code, self.text = code, text


class _Failure(msgspec.Struct):
    """The gateway's error document, in etcd 3.4's and 3.5's form."""

    message: str = ""
    error: str = ""
    code: int = 2


class Gateway:
    """The endpoints of one etcd cluster. Calls go to the endpoint that answered last; failures move on to the next.

    The first one is home, the member on our own machine: it dies with us and with nobody else, so once it answers again
    calls go back to it.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        clock: Clock,
        tls: Tls | None = None,
        deadline_s: float = DEADLINE_S,
        attempt_s: float = 3.0,
        unreachable_s: float = _UNREACHABLE_S,
    ) -> None:
        """`deadline_s` bounds a call, `attempt_s` the first try at an endpoint where there are several.

        `unreachable_s` bounds it where no endpoint can be reached.
        """
        assert endpoints
        self._endpoints, self._clock = tuple(url.rstrip("/") for url in endpoints), clock
        self._tls = tls.context() if tls else None
        self._deadline_s, self._unreachable_s = deadline_s, unreachable_s
        self._attempt_s = attempt_s if len(endpoints) > 1 else deadline_s
        self._preferred, self._home_at_s = 0, 0.0
        self._idle: list[Connection] = []
        self._slots = threading.Semaphore(_CONCURRENT_CALLS)
        self._closed = False

    def call(self, path: str, body: bytes, *, deadline_s: float = 0.0) -> tuple[bytes, bool]:
        """POST until an endpoint answers; the answer, and whether an earlier try of this call may have taken effect.

        The request must bear being repeated: a read, or a write whose compare lets at most one try through.
        Raises EtcdError on a definite one, Lost when the deadline passes, and StoreError, sooner, where no endpoint
        could even be reached for a while: etcd is down, not slow.
        """
        began_s = self._clock.monotonic_s()
        end_s, down_s = began_s + (deadline_s or self._deadline_s), began_s + self._unreachable_s
        backoff: Backoff | None = None
        lost, tries = False, 0
        failed: StoreError
        while True:
            left_s = end_s - self._clock.monotonic_s()
            index, patience_s = self._preferred, self._attempt_s * 2.0 ** (tries // len(self._endpoints))
            if index and path == _READ and self._time_to_go_home():
                index, patience_s = 0, _HOME_S
            try:
                answer = self._attempt(index, path, body, min(left_s, patience_s))
                self._preferred = 0 if index == 0 else self._preferred
                return answer, lost
            except (Lost, Silent) as error:
                silent = StoreError(f"etcd at {self._endpoints[index]} did not answer {path}: {error}")
                lost, failed = (True, error) if isinstance(error, Lost) else (lost, silent)
                down_s = self._clock.monotonic_s() + self._unreachable_s  # something is there
            except ConnectionError as error:
                failed = StoreError(f"etcd at {self._endpoints[index]} cannot be reached: {error}")
            self._move_on(index)
            tries += 1
            backoff = backoff or Backoff(base_s=0.05, cap_s=0.5)
            pause_s = backoff.next_s() if tries >= len(self._endpoints) else 0.0
            if self._closed or self._clock.monotonic_s() + pause_s >= min(end_s, down_s):
                failed.hint = "is etcd running? see `labctl logs NODE etcd`"
                raise failed
            self._clock.sleep_s(pause_s)

    def ask_each(self, path: str, body: bytes, *, attempt_s: float = _HOME_S) -> dict[str, bytes | str]:
        """POST once to every endpoint, each with a deadline of its own: its answer, or why there was none."""
        found: dict[str, bytes | str] = {}
        for index, url in enumerate(self._endpoints):
            try:
                found[url] = self._attempt(index, path, body, attempt_s)
            except (StoreError, OSError) as error:
                found[url] = str(error)
        return found

    def stream(self, path: str, body: bytes) -> Stream:
        """POST and keep reading; raises StoreError."""
        index = self._preferred
        url = self._endpoints[index]
        connection: Connection | None = None
        try:
            connection = Connection(url, self._tls, self._attempt_s)
            connection.send(path, body, self._attempt_s)
            status, answer, rest = read_head(lambda: connection.receive(self._attempt_s))
            if status != 200:
                raise StoreError(f"etcd at {url} refused the watch: HTTP {status}")
            return Stream(connection, answer, rest)
        except (OSError, EOFError, ValueError, StoreError) as error:
            if connection is not None:
                connection.close()
            self._move_on(index)
            raise error if isinstance(error, StoreError) else StoreError(f"etcd at {url}: {error}") from error

    def strayed(self, url: str) -> bool:
        """Whether calls are home (again), and `url` is not."""
        return self._preferred == 0 and url != self._endpoints[0]

    def yield_now(self) -> None:
        """Let other threads that are ready run first."""
        self._clock.sleep_s(0)

    def avoid(self, url: str) -> None:
        """Prefer another endpoint than `url`, which stopped telling the news."""
        if url == self._endpoints[self._preferred]:
            self._move_on(self._preferred)

    def close(self) -> None:
        """Hang up; calls under way end by themselves."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _move_on(self, failed: int) -> None:
        """Prefer the next endpoint, unless another caller has moved on already."""
        if self._preferred == failed and len(self._endpoints) > 1:
            self._preferred = (failed + 1) % len(self._endpoints)
            self._home_at_s = self._clock.monotonic_s() + _HOME_EVERY_S

    def _time_to_go_home(self) -> bool:
        """Whether this caller should ask the first endpoint; one caller at a time, now and then."""
        now_s = self._clock.monotonic_s()
        if now_s < self._home_at_s:
            return False
        self._home_at_s = now_s + _HOME_EVERY_S
        return True

    def _attempt(self, index: int, path: str, body: bytes, timeout_s: float) -> bytes:
        """One try; EtcdError on a definite answer, Lost if its effect is unknown.

        Nothing was sent: ConnectionError where the endpoint cannot be reached, Silent where it is slow.
        """
        end_s = self._clock.monotonic_s() + timeout_s
        if timeout_s <= 0 or not (self._slots.acquire(blocking=False) or self._slots.acquire(timeout=timeout_s)):
            raise Silent("too many calls at once")
        try:
            connection = self._connect(self._endpoints[index], timeout_s)
            try:
                connection.send(path, body, max(0.001, end_s - self._clock.monotonic_s()))
                status, answer = self._receive(connection, end_s)
            except (OSError, EOFError, ValueError) as error:
                connection.close()
                raise Lost(f"etcd at {connection.url} did not answer {path}: {error or 'no answer'}") from error
            except BaseException:  # the request was interrupted: an answer that is under way belongs to nobody
                connection.close()
                raise
        finally:
            self._slots.release()
        if self._closed or len(self._idle) >= _IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        if status == 200:
            return answer
        raise _failure(status, answer)

    def _connect(self, url: str, timeout_s: float) -> Connection:
        """An idle connection that is still up, or a new one; ConnectionError, Silent."""
        while self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if connection.url == url and connection.usable():
                    return connection
                connection.close()
        try:
            return Connection(url, self._tls, timeout_s)
        except Silent:
            raise
        except OSError as error:
            raise ConnectionError(str(error)) from error

    def _receive(self, connection: Connection, end_s: float) -> tuple[int, bytes]:
        """One whole answer: its HTTP status and body."""

        def more() -> bytes:
            return connection.receive(end_s - self._clock.monotonic_s())

        status, body, data = read_head(more)
        parts = [body.feed(data)]
        while not body.complete:
            parts.append(body.feed(more()))
        return status, b"".join(parts)


# gRPC: cancelled, unknown, deadline exceeded, aborted, internal, unavailable, data loss.
_TRANSIENT = frozenset({1, 2, 4, 10, 13, 14, 15})


def _failure(status: int, answer: bytes) -> StoreError:
    """What an error answer means: EtcdError, or Lost where etcd itself cannot tell."""
    try:
        failure = msgspec.json.decode(answer, type=_Failure)
    except msgspec.DecodeError:
        failure = _Failure(message=answer[:200].decode(errors="replace"))
    text = failure.message or failure.error or f"HTTP {status}"
    return Lost(f"etcd: {text}") if failure.code in _TRANSIENT else EtcdError(text, failure.code)
