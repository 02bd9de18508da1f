"""etcd keeps every state of every object until told otherwise: forget what is older than a few minutes, as upstream.

Source: apiserver `storage/etcd3/compact.go`. Several API servers may each do so: the later one changes nothing.
"""

from __future__ import annotations

import logging

from labctl.runtime.loop import Stop
from master.store.protocol import Store, StoreError

_log = logging.getLogger(__name__)
INTERVAL_S = 300.0


def run(store: Store, stop: Stop, *, interval_s: float = INTERVAL_S) -> None:
    """Every `interval_s`, compact up to where the store stood one interval before; until `stop`."""
    before = 0
    while True:
        try:
            now = store.revision()
            if before:
                store.compact(before)
            before = now
        except StoreError as error:
            _log.info("could not compact the store", extra={"kv": {"error": error}})
        if stop.wait_s(interval_s):
            return
