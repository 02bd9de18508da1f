"""Commands of the drills."""

from __future__ import annotations

COMMANDS = ()
