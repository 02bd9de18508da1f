"""Vagrant's own command: its steps, its failures, its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.vm.vagrant.runner import Runner
from tests.unit.labctl.vm.vagrant_lab import site


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Vagrantfile, and a `vagrant` first on PATH; fill it in with `vagrant_says`."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/Vagrantfile").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "project"


def vagrant_says(project: Path, script: str) -> None:
    path = project.parent / "bin/vagrant"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_vagrant_makes_the_named_machines_and_its_steps_are_told(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, 'echo "$@" "$VAGRANT_DOTFILE_PATH"; echo "==> worker1: Starting domain."; echo "==> x: y"')
    heard: list[tuple[str, str]] = []
    Runner(site(tmp_path), project, 20).make(["worker1", "worker2"], lambda *said: heard.append(said))
    assert heard == [("worker1", "starting")]
    log = (tmp_path / "logs/vagrant.log").read_text()
    assert f"up /^(worker1|worker2)$/ --no-provision {tmp_path.resolve()}/vagrant" in log


def test_a_failure_of_vagrant_ends_with_its_last_words_and_names_the_log(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "echo 'The box is broken.' >&2; exit 1")
    with pytest.raises(LabError, match="The box is broken") as caught:
        Runner(site(tmp_path), project, 20).make(["worker1"], lambda *_: None)
    assert "vagrant.log" in caught.value.hint


def test_a_ruby_traceback_does_not_hide_what_went_wrong(tmp_path: Path, project: Path) -> None:
    trace = "/usr/lib/ruby/vagrant/batch_action.rb:86:in block"
    vagrant_says(project, f'echo "libvirt: no such pool"; echo; echo "{trace}"; echo "  from {trace}"; exit 1')
    with pytest.raises(LabError, match="exited with 1: libvirt: no such pool"):
        Runner(site(tmp_path), project, 20).make(["worker1"], lambda *_: None)


def test_a_vagrant_that_hangs_is_ended(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "exec sleep 60")
    with pytest.raises(DeadlineExceeded):
        Runner(site(tmp_path), project, 0.3).make(["worker1"], lambda *_: None)


def test_an_interrupted_up_does_not_leave_vagrant_running(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "echo $$; echo '==> worker1: Starting domain.'; exec sleep 60")

    def interrupt(*_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(site(tmp_path), project, 20).make(["worker1"], interrupt)
    pid = (tmp_path / "logs/vagrant.log").read_text().splitlines()[1]
    assert not Path(f"/proc/{pid}").exists()
