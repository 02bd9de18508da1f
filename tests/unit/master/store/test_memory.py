from __future__ import annotations

import pytest

from labctl.runtime.clock import FakeClock
from master.store.memory import MemoryStore
from master.store.protocol import Compacted


def test_a_store_taken_over_goes_on_alone_from_where_the_other_stands() -> None:
    first, second = MemoryStore(FakeClock()), MemoryStore(FakeClock())
    first.create("a", b"1")
    gone = first.create("b", b"2")
    first.delete("b", expected=gone)
    second.take_over(first)
    assert [entry.key for entry in second.list("").entries] == ["a"]
    assert second.revision() == first.revision()
    second.create("c", b"3")
    assert first.get("c")[0] is None
    with pytest.raises(Compacted):
        second.watch("", after=gone)
