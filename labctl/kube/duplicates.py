"""Keys that a JSON body gives twice: the last one counts, and strict field validation tells of the others.

Source: sigs.k8s.io/json (`duplicate field "spec.replicas"`).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, in order."""


def duplicates(body: bytes, document: Any) -> list[str]:
    """The paths of keys that come again, given the body and what it was decoded to.

    Nearly every body is compact JSON, whose encoding is as long as itself exactly when no key was lost: that is a few
    microseconds. Only others are parsed a second time.
    """
    if len(_encode(document)) == len(body):
        return []
    found: list[str] = []
    try:
        _walk(json.loads(body, object_pairs_hook=_Pairs), "", found)
    except (ValueError, RecursionError):
        return []  # whoever decoded the body has said what is wrong with it
    return found


def _walk(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, entry in value:
            inner = f"{path}.{key}" if path else key
            if key in seen:
                found.append(inner)
            seen.add(key)
            if isinstance(entry, list):
                _walk(entry, inner, found)
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            if isinstance(entry, list):
                _walk(entry, f"{path}[{at}]", found)
