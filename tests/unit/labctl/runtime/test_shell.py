"""Programs that we run on this machine: their priority."""

from __future__ import annotations

import os

import pytest

from labctl.runtime.shell import CommandError, LocalShell, at_usual_priority


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> int:
    """We seem to run at a higher priority than we do; what is added to a program's, then, is what takes it back."""
    monkeypatch.setattr("os.nice", lambda step: -7)
    return 7


def test_what_a_raised_process_runs_is_lowered_by_as_much(raised: int) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(LocalShell().run(["nice"]).stdout) == min(before + raised, 19)  # the lowest there is


def test_nothing_stands_before_a_program_at_the_usual_priority() -> None:
    assert at_usual_priority(["true", "x"]) == ["true", "x"]


@pytest.mark.usefixtures("raised")
def test_a_missing_program_is_missed_under_its_own_name() -> None:
    with pytest.raises(CommandError, match=r"^no-such-program: not found$") as caught:
        LocalShell().run(["no-such-program"], check=False)
    assert caught.value.code == 127
