"""Builds of our control plane that are broken on purpose, each in one place: `builds.py COMPONENT BREAKAGE... -- ARGS`.

What runs is the real component, with one function of it replaced before it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any

import msgspec


def stale_endpoint() -> None:
    """An EndpointSlice controller that believes every pod to be ready for as long as its object is there."""
    module = import_module("master.controllers.catalog.endpoint_slice")
    right = module._endpoint

    def wrong(*args: Any) -> Any:
        always = module.EndpointConditions(ready=True, serving=True, terminating=False)
        return msgspec.structs.replace(right(*args), conditions=always)

    module._endpoint = wrong  # type: ignore[attr-defined]


def early_eviction() -> None:
    """A taint eviction controller that does not wait until tolerations have run out."""
    import_module("master.controllers.catalog.taint_eviction").tolerated_s = lambda *_: 0.0  # type: ignore[attr-defined]


def lost_write() -> None:
    """A store that acknowledges every third change of the drill's records, and forgets it."""
    store: Any = import_module("master.store.memory").MemoryStore
    right, number = store.update, count(1)

    def wrong(self: Any, key: str, value: bytes, **how: Any) -> int:
        if "labctl-drill-writes" in key and next(number) % 3 == 0:
            return int(self.revision())
        return int(right(self, key, value, **how))

    store.update = wrong


def watch_gap() -> None:
    """Watches that miss every fifth change of a leader's lease; one that is opened later is told of it from history."""
    watcher: Any = import_module("master.apiserver.watcher").Watcher
    offer, begin, number = watcher.offer, watcher.begin, count(1)

    def wrong(self: Any, event: Any) -> bool:
        live = not getattr(self, "beginning", False)
        if live and "/leases/kube-system/" in event.object.key and next(number) % 5 == 0:
            return True
        return bool(offer(self, event))

    def beginning(self: Any, *what: Any) -> None:
        self.beginning = True
        begin(self, *what)
        self.beginning = False

    watcher.offer, watcher.begin = wrong, beginning


_BY_COMPONENT: dict[str, tuple[Callable[[], None], ...]] = {
    "apiserver": (lost_write, watch_gap),
    "controllers": (stale_endpoint, early_eviction),
}
BREAKAGES = {found.__name__: found for broken in _BY_COMPONENT.values() for found in broken}
BROKEN = {component: tuple(found.__name__ for found in broken) for component, broken in _BY_COMPONENT.items()}


def main(argv: list[str]) -> int:
    """Break the component, then run it."""
    end = argv.index("--")
    component = import_module(f"master.{argv[0]}.__main__")  # the API server's patches the standard library first
    for name in argv[1:end]:
        BREAKAGES[name]()
    sys.argv = [argv[0], *argv[end + 1 :]]
    return int(component.main())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
