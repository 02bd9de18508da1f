from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.runtime.shell import LocalShell
from labctl.vm import wheel

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "labctl"
version = "0.0.1"
[tool.hatch.build.targets.wheel]
packages = ["labctl", "master", "agents"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for package in wheel.PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text(f'"""{package}."""\n')
    for part in ("kube", "runtime"):
        (root / "labctl" / part).mkdir()
        (root / "labctl" / part / "__init__.py").touch()
    (root / "pyproject.toml").write_text(PYPROJECT)
    return root


def test_a_node_gets_our_packages_and_the_schemas_and_can_import_them(project: Path, tmp_path: Path) -> None:
    (project / "master/probe.py").write_text("import labctl.kube, labctl.runtime; print('imported')\n")
    app = tmp_path / "app"
    with zipfile.ZipFile(wheel.build(project, tmp_path / "cache", LocalShell())["master"]) as archive:
        archive.extractall(app)
    definitions = json.loads((app / wheel.SCHEMAS).read_text())
    assert definitions["$defs"]["io.k8s.api.core.v1.Pod"]["properties"]
    done = LocalShell().run([sys.executable, "-S", "-m", "master.probe"], env={"PYTHONPATH": str(app)}, cwd=tmp_path)
    assert done.stdout == "imported\n"


def test_a_role_gets_what_it_runs_and_no_more(project: Path, tmp_path: Path) -> None:
    for file in ("labctl/vm/lab.py", "agents/kubelet/plan.py", "agents/proxy/plan.py"):
        (project / file).parent.mkdir()
        (project / file).touch()
    packed = {}
    for role, path in wheel.build(project, tmp_path / "cache", LocalShell()).items():
        with zipfile.ZipFile(path) as archive:
            packed[role] = {name.rpartition("/")[0] for name in archive.namelist() if name.endswith(".py")}
    assert packed == {
        "master": {"labctl", "labctl/kube", "labctl/runtime", "master", "agents", "agents/proxy"},
        "worker": {"labctl", "labctl/kube", "labctl/runtime", "agents", "agents/kubelet", "agents/proxy"},
    }


def test_what_did_not_change_is_not_packed_again(project: Path, tmp_path: Path) -> None:
    first = wheel.build(project, tmp_path / "cache", LocalShell())
    stamps = [path.stat().st_mtime_ns for path in first.values()]
    assert wheel.build(project, tmp_path / "cache", LocalShell()) == first
    assert [path.stat().st_mtime_ns for path in first.values()] == stamps


def test_a_changed_or_a_new_source_makes_another_archive(project: Path, tmp_path: Path) -> None:
    prints = {wheel.fingerprint(project)}
    (project / "master/__init__.py").write_text("x = 1\n")
    prints.add(wheel.fingerprint(project))
    (project / "master/more.py").touch()
    prints.add(wheel.fingerprint(project))
    assert len(prints) == 3
    (project / "master/__pycache__").mkdir()
    (project / "master/__pycache__/more.pyc").touch()
    assert wheel.fingerprint(project) in prints


def test_only_the_latest_archives_stay_in_the_cache(project: Path, tmp_path: Path) -> None:
    for number in range(10):
        (project / "master/__init__.py").write_text(f"x = {number}\n")
        newest = wheel.build(project, tmp_path / "cache", LocalShell())
    kept = list((tmp_path / "cache/app").iterdir())
    assert len(kept) == 8
    assert newest["worker"].parent in kept


def test_byte_code_goes_in_where_the_nodes_python_is_here(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "node_python", lambda *_: (sys.executable,))
    compiled = set()
    for path in wheel.build(project, tmp_path / "cache", LocalShell()).values():
        with zipfile.ZipFile(path) as archive:
            compiled |= {name.split("/")[0] for name in archive.namelist() if name.endswith(".pyc")}
    assert compiled == set(wheel.PACKAGES)


def test_a_broken_source_is_told_when_it_is_packed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "node_python", lambda *_: (sys.executable,))
    (project / "master/broken.py").write_text("def (:\n")
    with pytest.raises(LabError, match="could not compile"):
        wheel.build(project, tmp_path / "cache", LocalShell())
    assert not list((tmp_path / "cache/app").iterdir())


def test_outside_a_source_tree_the_error_says_where_to_run_from(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not labctl's source tree") as caught:
        wheel.build(tmp_path, tmp_path / "cache", LocalShell())
    assert "pip install -e ." in caught.value.hint


def test_a_tree_without_the_nodes_python_is_no_interpreter(tmp_path: Path) -> None:
    assert wheel.node_python(tmp_path, LocalShell()) in ((), ("python3.13",))
