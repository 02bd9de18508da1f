"""A property is judged by what it finds, not by how fast this machine is today."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
