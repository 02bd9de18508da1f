import os
import stat
from pathlib import Path

import pytest

from labctl.config import LabConfig
from labctl.runtime.errors import LabError, UsageError
from labctl.vm.layout import lay_out
from labctl.vm.state import LabState, labs, write_atomically


def test_a_topology_comes_back_as_it_was(tmp_path: Path) -> None:
    state, lab = LabState(tmp_path, "lab"), lay_out(LabConfig(), None, ())
    state.save_topology(lab)
    assert state.topology() == lab
    assert stat.S_IMODE(state.dir.stat().st_mode) == 0o700
    assert labs(tmp_path) == ["lab"]


def test_a_lab_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    LabState(tmp_path, "other").save_topology(lay_out(LabConfig(name="other"), None, ()))
    with pytest.raises(UsageError) as caught:
        LabState(tmp_path, "lab").topology()
    assert "other" in caught.value.hint


def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path) -> None:
    state = LabState(tmp_path, "lab")
    state.save_topology(lay_out(LabConfig(), None, ()))
    path = state.dir / "topology.json"
    path.write_text("{")
    with pytest.raises(LabError, match=r"topology\.json: damaged"):
        state.topology()
    assert path.read_text() == "{"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_second_labctl_is_told_who_is_at_work(tmp_path: Path) -> None:
    state = LabState(tmp_path, "lab")
    with (
        state.locked("up"),
        pytest.raises(LabError, match=r"`labctl up` \(process \d+\) is at work"),
        state.locked("up"),
    ):
        pass
    with state.locked("destroy"):  # free again
        pass


def test_phases_are_remembered_by_what_they_worked_from(tmp_path: Path) -> None:
    state = LabState(tmp_path, "lab")
    state.mark("provision", "abc")
    assert state.done() == {"provision": "abc"}
    state.mark("provision", "")
    assert state.done() == {}


def test_nothing_is_left_of_a_forgotten_lab(tmp_path: Path) -> None:
    state = LabState(tmp_path / "root", "lab")
    state.save_topology(lay_out(LabConfig(), None, ()))
    state.forget()
    assert not (tmp_path / "root").exists()
