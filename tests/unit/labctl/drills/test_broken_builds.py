"""The builds that are broken on purpose start: what each replaces is still where it looks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.drills import builds

COMPONENTS = {breakage: component for component, names in builds.BROKEN.items() for breakage in names}


def test_every_breakage_is_tried() -> None:
    assert COMPONENTS.keys() == builds.BREAKAGES.keys()


@pytest.mark.parametrize("breakage", COMPONENTS)
def test_a_broken_build_starts(breakage: str) -> None:
    argv = [sys.executable, builds.__file__, COMPONENTS[breakage], breakage, "--", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout
