"""Random operations on both stores against a model of what a revisioned map is. Bounded to a few seconds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from master.store.protocol import Change, Compacted, KeyExists, Progress, RevisionMismatch, Store

NAMES = st.sampled_from(["a", "b", "b/1", "b/2", "c"])
VALUES = st.binary(max_size=8)


@dataclass(frozen=True)
class State:
    """A key in the model: its value, last write and creation."""

    value: bytes
    revision: int
    created: int


class Machine(RuleBasedStateMachine):
    """The model: every state the prefix ever had, by revision, and every change."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.at = f"/registry/{uuid.uuid4().hex}/"
        self.now: dict[str, State] = {}
        self.start = self.store.revision()
        self.past: dict[int, dict[str, State]] = {self.start: {}}
        self.changes: list[Change] = []
        self.compacted = 0

    @rule(name=NAMES, value=VALUES)
    def create(self, name: str, value: bytes) -> None:
        """Creates succeed exactly where nothing stands."""
        try:
            revision = self.store.create(self.at + name, value)
        except KeyExists:
            assert name in self.now
            return
        assert name not in self.now
        self._wrote(name, State(value, revision, revision), revision)

    @rule(name=NAMES, value=VALUES, stale=st.booleans())
    def update(self, name: str, value: bytes, stale: bool) -> None:
        """Updates succeed exactly at the expected revision."""
        state = self.now.get(name)
        expected = (state.revision if state else self.start) - (1 if stale else 0)
        try:
            revision = self.store.update(self.at + name, value, expected=expected)
        except RevisionMismatch as error:
            assert stale or state is None
            self._same(name, error)
            return
        assert state is not None
        assert not stale
        self._wrote(name, State(value, revision, state.created), revision)

    @rule(name=NAMES, stale=st.booleans())
    def delete(self, name: str, stale: bool) -> None:
        """Deletes succeed exactly at the expected revision."""
        state = self.now.get(name)
        expected = (state.revision if state else self.start) - (1 if stale else 0)
        try:
            revision = self.store.delete(self.at + name, expected=expected)
        except RevisionMismatch as error:
            assert stale or state is None
            self._same(name, error)
            return
        assert state is not None
        assert not stale
        self._wrote(name, None, revision)

    @rule(prefix=st.sampled_from(["", "b", "b/", "z"]), limit=st.integers(0, 3), back=st.integers(0, 6))
    def list_in_pages(self, prefix: str, limit: int, back: int) -> None:
        """Pages of any size, now or in the past, add up to that state."""
        revision = list(self.past)[-1 - min(back, len(self.past) - 1)]
        found: list[tuple[str, bytes, int, int]] = []
        after = ""
        try:
            while True:
                page = self.store.list(self.at + prefix, revision=revision, limit=limit, after=after)
                found += [(one.key, one.value, one.revision, one.created_revision) for one in page.entries]
                after = page.next_after
                if not after:
                    break
        except Compacted:
            assert revision < self.compacted
            return
        assert revision >= self.compacted
        assert found == [
            (self.at + name, state.value, state.revision, state.created)
            for name, state in sorted(self.past[revision].items())
            if name.startswith(prefix)
        ]

    @rule(back=st.integers(0, 8))
    def watch(self, back: int) -> None:
        """A watch from any revision tells exactly what followed it."""
        revisions = list(self.past)
        after = revisions[-1 - min(back, len(revisions) - 1)]
        got: list[Change] = []
        try:
            with self.store.watch(self.at, after=after) as items:
                self.store.request_progress(self.at, revision=revisions[-1])
                for item in items:
                    if isinstance(item, Change):
                        got.append(item)
                    elif isinstance(item, Progress) and item.revision >= revisions[-1]:
                        break
        except Compacted:
            assert after < self.compacted
            return
        assert got == [change for change in self.changes if change.revision > after]

    @precondition(lambda self: len(self.past) > 6)
    @rule()
    def compact(self) -> None:
        """Forget the older half."""
        revisions = list(self.past)
        self.compacted = revisions[len(revisions) // 2]
        self.store.compact(self.compacted)

    @invariant()
    def reads_match(self) -> None:
        """What stands in the store is what the model says."""
        page = self.store.list(self.at)
        assert {one.key.removeprefix(self.at): one.value for one in page.entries} == {
            name: state.value for name, state in self.now.items()
        }

    def _wrote(self, name: str, state: State | None, revision: int) -> None:
        assert revision > list(self.past)[-1]
        before = self.now.get(name)
        value = state.value if state else None
        self.changes.append(Change(self.at + name, revision, value, before.value if before else None))
        self.now = {key: old for key, old in self.now.items() if key != name} | ({name: state} if state else {})
        self.past[revision] = self.now

    def _same(self, name: str, error: RevisionMismatch) -> None:
        state, current = self.now.get(name), error.current
        assert (state is None) == (current is None)
        if state is not None and current is not None:
            assert (current.value, current.revision, current.created_revision) == (
                state.value, state.revision, state.created,
            )  # fmt: skip


def test_random_operations_agree_with_the_model(store: Store, request: pytest.FixtureRequest) -> None:
    examples = 150 if "memory" in request.node.name else 20
    machine = type("MachineOnStore", (Machine,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
