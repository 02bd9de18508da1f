"""What bounds a request: how many are at work at once, and for how long one may be. Streams are exempt from both.

Source: apiserver `server/filters/{maxinflight,longrunning}.go`, `endpoints/filters/request_deadline.go`; the numbers
are kube-apiserver's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from gevent import Timeout

from labctl.kube.errors import BadRequest, ServerTimeout, TooManyRequests
from master.apiserver.reply import Reply
from master.apiserver.request import Request

T = TypeVar("T")

REQUEST_S = 60.0
_MAX_READS, _MAX_WRITES = 400, 200
_STREAMS = frozenset({"attach", "exec", "log", "portforward", "proxy"})
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)(?:h|m(?!s)|s|ms|us|µs|ns))+")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|ns)")


def long_running(request: Request) -> bool:
    """Whether the answer is a stream: a watch, or a connection to a kubelet or a pod."""
    return request.verb == "watch" or (request.target is not None and request.target.subresource in _STREAMS)


class InFlight:
    """The requests at work now."""

    def __init__(self, max_reads: int = _MAX_READS, max_writes: int = _MAX_WRITES) -> None:
        self._limits = (max_reads, max_writes)
        self._counts = [0, 0]

    @property
    def reads(self) -> int:
        """Those that read."""
        return self._counts[0]

    @property
    def writes(self) -> int:
        """Those that write."""
        return self._counts[1]

    def run(self, request: Request, act: Callable[[], Reply]) -> Reply:
        """`act`'s reply; TooManyRequests where there are too many, ServerTimeout where it takes too long.

        A request that is timed out is interrupted where it waits; a write under way may have taken effect.
        """
        if request.target is None or long_running(request):
            return act()
        kind = 0 if request.method in {"GET", "HEAD"} else 1
        if self._counts[kind] >= self._limits[kind]:
            raise TooManyRequests("too many requests, please try again later.", details={"retryAfterSeconds": 1})
        self._counts[kind] += 1
        try:
            return within(request_s(request), act)
        finally:
            self._counts[kind] -= 1


def within(seconds: float, act: Callable[[], T]) -> T:
    """`act()`, interrupted where it waits once its time is over: ServerTimeout."""
    deadline = Timeout(seconds)
    deadline.start()
    try:
        return act()
    except Timeout as fired:
        if fired is not deadline:
            raise
        raise ServerTimeout("request did not complete within the allotted timeout", details={}) from fired
    finally:
        deadline.close()


def request_s(request: Request) -> float:
    """How long a request may take: the client's `timeout`, never more than ours; BadRequest where it is no duration."""
    text = request.query.get("timeout")
    if not text or text == "0":
        return REQUEST_S
    if not _DURATION.fullmatch(text):
        raise BadRequest("invalid timeout specified in the request URL", details={})
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return min(seconds, REQUEST_S) if seconds > 0 else REQUEST_S
