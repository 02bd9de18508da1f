"""The command line as a user types it; machines are the fake provider's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl import cli
from labctl.config import LabConfig
from labctl.drills import lock, undo
from labctl.drills.actions import DeleteObject
from labctl.drills.registry import catalog
from labctl.drills.target import Reopen
from labctl.vm.layout import lay_out
from labctl.vm.state import LabState

Type = Callable[..., int]


@pytest.fixture
def type_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types `labctl ...` in a folder of its own; the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / ".labctl"))
    monkeypatch.delenv("LABCTL_NAME", raising=False)

    def run(*args: str) -> int:
        monkeypatch.setattr("sys.argv", ["labctl", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def lab(tmp_path: Path) -> LabState:
    """A lab called `one` that was laid out, but whose machines were never made."""
    state = LabState(tmp_path / ".labctl", "one")
    state.save_topology(lay_out(LabConfig(name="one", provider="fake"), None, ()))
    return state


def test_a_lab_that_is_not_there_is_misuse_and_says_what_to_do(
    type_in: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("status") == 2
    told = capsys.readouterr().err
    assert "there is no lab 'lab'" in told
    assert "labctl up" in told


def test_a_misspelt_command_is_guessed_at(type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("stauts") == 2
    assert "status" in capsys.readouterr().err


def test_the_only_lab_needs_no_name(type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("status", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "one"
    assert [(node["name"], node["power"]) for node in found["nodes"]] == [
        ("master1", "absent"), ("worker1", "absent"), ("worker2", "absent"),
    ]  # fmt: skip
    assert "no kubeconfig yet" in found["api"]


def test_status_is_plain_text_where_there_is_no_terminal(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("status") == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "worker2" in told


def test_a_node_that_is_not_there_names_those_that_are(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("ssh", "worker9") == 2
    assert "master1, worker1, worker2" in capsys.readouterr().err


def test_a_broken_lab_yaml_stops_up_before_anything_is_made(
    type_in: Type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lab.yaml").write_text("name: lab\nworkers: many\n")
    assert type_in("up") == 2
    assert "lab.yaml:2: workers: " in capsys.readouterr().err
    assert not (tmp_path / ".labctl").exists()


def test_a_second_labctl_is_turned_away_while_one_is_at_work(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab.locked("up"):
        assert type_in("destroy") == 1
    assert "is busy: `labctl up`" in capsys.readouterr().err
    assert lab.exists


def test_destroy_takes_half_a_lab_and_can_be_asked_for_none(type_in: Type, lab: LabState) -> None:
    assert type_in("destroy") == 0
    assert not lab.exists
    assert type_in("destroy", "--name", "one") == 2
    assert type_in("destroy", "--name", "one", "--if-exists") == 0


def test_a_drill_that_is_not_there_is_guessed_at(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("drill", "run", "worker-power-los") == 2
    assert "did you mean 'worker-power-loss'?" in capsys.readouterr().err


def test_an_image_that_is_neither_file_nor_known_is_misuse(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("image", "load", "nginx:latest") == 2
    assert "lab.local/web:1" in capsys.readouterr().err


@pytest.mark.parametrize("args", [("--help",), ("up", "--help"), ("drill", "run", "--help"), ("version",)])
def test_help_and_version_end_well(type_in: Type, args: tuple[str, ...]) -> None:
    assert type_in(*args) == 0


def test_heal_of_a_lab_that_no_drill_touched_says_so(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("heal") == 0
    assert "no drill left anything behind on lab 'one'" in capsys.readouterr().out


def test_heal_tells_what_it_cannot_undo_and_keeps_it_written_down(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.drills.runner._RECOVERY_S", 0.0)
    folder = lab.dir / "drills"
    folder.mkdir()
    left = undo.Pending(
        drill="worker-power-loss",
        run_dir=str(folder / "gone"),
        runner_pid=1,
        reopen=Reopen(factory="nowhere:nothing"),
        heal_by_s=0.0,
        cleanups=(DeleteObject(plural="configmaps", group="", namespace="default", name="writes"),),
    )
    undo.save(folder, left)
    monkeypatch.setattr("labctl.drills.recovery._CLEANUP_S", 0.0)
    assert type_in("heal") == 1  # the lab has no API
    told = capsys.readouterr()
    assert "delete configmaps/writes in default: failed" in told.out
    assert "is not healed" in told.err
    assert undo.load(folder) == left


def test_heal_waits_for_nobody_while_a_drill_runs(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab.dir / "drills").mkdir()
    held = lock.take(lab.dir / "drills", "worker-power-loss, process 1")
    assert type_in("heal") == 1
    assert "already running on this lab: worker-power-loss" in capsys.readouterr().err
    os.close(held)


def test_a_suite_of_unknown_or_contradictory_drills_is_misuse(type_in: Type, lab: LabState) -> None:
    assert type_in("drill", "suite", "--names", "worker-power-loss,nonsense") == 2
    assert type_in("drill", "suite", "--names", "worker-power-loss", "--all") == 2
    assert type_in("drill", "suite", "--names", ",") == 2


def test_a_dry_run_of_a_half_made_lab_says_what_is_missing(
    type_in: Type, lab: LabState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("drill", "run", "worker-power-loss", "--dry-run") == 1
    assert "labctl up" in capsys.readouterr().err


def test_names_in_a_table_are_never_cut(type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("drill", "list") == 0
    told = capsys.readouterr().out
    for name, found in catalog().items():
        assert f"{name} " in told
        assert found.title in told
