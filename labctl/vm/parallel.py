"""Doing one thing to many machines at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(items: Sequence[T], task: Callable[[T], R]) -> list[R]:
    """Run `task` for all `items` at once; let every one finish, then raise the first error."""
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        futures = [pool.submit(task, item) for item in items]
    return [future.result() for future in futures]
