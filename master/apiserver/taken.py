"""Keys that a write takes before its object is stored: whoever creates a key has it, and gives it back if it fails."""

from __future__ import annotations

import contextlib

from master.store.protocol import KeyExists, RevisionMismatch, Store


class Taken:
    """What one write took; given back unless kept. A dry run takes nothing, and is told that it may."""

    def __init__(self, store: Store, *, dry_run: bool) -> None:
        self._store, self.dry_run = store, dry_run
        self._keys: list[tuple[str, int]] = []

    def take(self, key: str, value: bytes) -> bool:
        """Whether nobody else has it."""
        if self.dry_run:
            return True
        try:
            self._keys.append((key, self._store.create(key, value)))
        except KeyExists:
            return False
        return True

    def keep(self) -> None:
        """The write succeeded."""
        self._keys.clear()

    def give_back(self) -> None:
        """It did not."""
        for key, revision in self._keys:
            with contextlib.suppress(RevisionMismatch):
                self._store.delete(key, expected=revision)
        self._keys.clear()
