"""Every component's program tells what is wrong with its configuration in one line, and exits with 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMPONENTS = ("master.apiserver", "master.scheduler", "master.controllers", "agents.kubelet", "agents.proxy")


def run(module: str, path: Path) -> tuple[int, str]:
    argv = [sys.executable, "-m", module, "--config", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", COMPONENTS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"profile": "slow"}', "'slow'"),
        ('{"colour": "red"}', "colour"),
        ("{", "truncated"),
    ],
)
def test_a_fault_names_the_file_and_the_field(tmp_path: Path, module: str, text: str, words: str) -> None:
    path = tmp_path / "component.json"
    path.write_text(text)
    code, told = run(module, path)
    assert code == 2
    assert str(path) in told
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize("module", COMPONENTS)
def test_a_missing_file_says_who_writes_it(tmp_path: Path, module: str) -> None:
    code, told = run(module, tmp_path / "none.json")
    assert code == 2
    assert "No such file" in told
    assert "labctl up" in told
