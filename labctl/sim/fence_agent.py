"""The host's side of power fencing, and what may be wrong with it. The controllers' own client asks it.

It powers a machine off at its word; somebody starts the machine again later, as `labctl up` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.runtime.chance import Generator
from labctl.sim.hub import Hub
from master.controllers.config import FenceAgent as Settings
from master.controllers.fence_client import FenceClient

_SILENCE_S = 3.0  # until a client gives up on an agent that it cannot reach
_AGAIN_S = 6.0  # a request that is repeated under way arrives so much later at most
_Answer = tuple[int, bytes]


class FenceAgent:
    """One machine at a time. `cut_power` has it off when it returns."""

    def __init__(self, hub: Hub, rng: Generator, cut_power: Callable[[str], None]) -> None:
        self.hub, self._rng, self._cut_power = hub, rng, cut_power
        self.cut = False  # the controllers cannot reach it
        self.deaf = False  # it acts, and its answer does not arrive
        self.fails = 0  # of so many requests nothing comes
        self.repeats = False  # requests arrive twice
        self.slow_s = 0.0
        self._busy_until_s = 0.0

    def ask(self, node: str, done: Callable[[Any], None]) -> None:
        """A request; `done` gets status and body, or an OSError."""
        if self.cut:
            self.hub.after(_SILENCE_S, lambda: done(_silent()))
            return
        if self.repeats:
            self.hub.after(_AGAIN_S * self._rng.random(), lambda: self._queue(node, lambda _: None))
        self._queue(node, done)

    def _queue(self, node: str, done: Callable[[Any], None]) -> None:
        begins_s = max(self.hub.now_s, self._busy_until_s)
        self._busy_until_s = begins_s + 0.2 + 2.0 * self._rng.random() ** 2 + self.slow_s * self._rng.random()
        self.hub.at(self._busy_until_s, lambda: self._act(node, done))

    def _act(self, node: str, done: Callable[[Any], None]) -> None:
        answer: _Answer | OSError
        if self.fails > 0:
            self.fails -= 1
            answer = (500, msgspec.json.encode({"error": "the provider does not say that it is off"}))
        else:
            self.power_off(node)
            answer = (200, msgspec.json.encode({"evidence": "the provider says so"}))
        if self.cut or self.deaf:
            self.hub.after(_SILENCE_S, lambda: done(_silent()))
        else:
            done(answer)

    def power_off(self, node: str) -> None:
        """Do it, and see it off."""
        self._cut_power(node)


class SimFenceClient(FenceClient):
    """The controllers' client, without a socket."""

    def __init__(self, agent: FenceAgent) -> None:
        super().__init__(Settings(url="the host", ca_file="", cert_file="", key_file=""))
        self._at = agent

    def _post(self, node: str) -> _Answer:
        answer: _Answer = self._at.hub.current().ask(lambda done: self._at.ask(node, done))
        return answer


def _silent() -> OSError:
    return TimeoutError("no answer")
