"""The record on disk: appended as things happen, whole after any crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.drills import history
from labctl.drills.history import Recorder
from labctl.drills.records import HealBegan, PhaseBegan, Said
from labctl.runtime.clock import FakeClock
from labctl.runtime.errors import LabError


def test_what_was_added_is_read_back_with_its_times(tmp_path: Path) -> None:
    clock, path = FakeClock(monotonic_s=50.0), tmp_path / "history.jsonl"
    recorder = Recorder(path, clock)
    recorder.add(PhaseBegan(name="steady"))
    clock.advance(1.5)
    recorder.add(Said(text="hello"), t_s=51.0)
    told = history.load(path)
    assert [(entry.t_s, entry.what) for entry in told] == [
        (50.0, PhaseBegan(name="steady")),
        (51.0, Said(text="hello")),
    ]
    assert told[0].wall == "2026-01-01T00:00:00.000000Z"
    assert list(recorder.history()) == list(told)


def test_a_record_is_on_disk_before_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    Recorder(path, FakeClock()).add(HealBegan(by="runner", why="x"), durable=True)
    assert len(history.load(path)) == 1


def test_a_line_torn_by_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, FakeClock())
    recorder.add(Said(text="one"))
    with open(path, "ab") as file:
        file.write(b'{"t_s": 5, "wa')
    assert [record.text for _, record in history.load(path).of(Said)] == ["one"]


def test_another_process_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    Recorder(path, FakeClock()).add(Said(text="one"))
    with open(path, "ab") as file:
        file.write(b'{"t_s": 5, "wa')
    Recorder(path, FakeClock()).add(Said(text="two"))
    assert [record.text for _, record in history.load(path).of(Said)] == ["one", "two"]


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, FakeClock())
    recorder.add(Said(text="one"))
    with open(path, "ab") as file:
        file.write(b"nonsense\n")
    recorder.add(Said(text="two"))
    with pytest.raises(LabError, match="line 2"):
        history.load(path)


def test_a_disk_that_fails_is_noted_and_memory_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path / "history.jsonl", FakeClock())

    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labctl.drills.history.os.write", full)
    recorder.add(Said(text="one"))
    assert "No space left on device" in recorder.trouble
    assert len(recorder.history()) == 1
