"""What differs between two documents, in lines for people. Pure."""

from __future__ import annotations

from typing import Any

_MOST = 12


def difference(old: Any, new: Any) -> str:
    """Lines of `- path: old` and `+ path: new`, a dozen at most."""
    lines: list[str] = []
    _compare(old, new, "", lines)
    return "\n".join(lines[:_MOST])


def _compare(old: Any, new: Any, path: str, lines: list[str]) -> None:
    if old == new or len(lines) >= _MOST:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(old.get(key), new.get(key), f"{path}.{key}" if path else key, lines)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (before, after) in enumerate(zip(old, new, strict=True)):
            _compare(before, after, f"{path}[{at}]", lines)
    else:
        lines += [f"{sign} {path}: {value}" for sign, value in (("-", old), ("+", new)) if value is not None]
