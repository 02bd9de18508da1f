"""The module that roles are made of, in this process: what it does to files, and which programs it asks for."""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("component", ROOT / "playbooks/library/component.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FailedError(Exception):
    pass


class Module:
    """Stands in for AnsibleModule: keeps the commands; `answers` maps a command's first words to (code, output)."""

    def __init__(self, *, check: bool = False, answers: dict[str, tuple[int, str]] | None = None) -> None:
        self.check_mode, self.answers = check, answers or {}
        self.commands: list[str] = []

    def run_command(self, argv: list[str], environ_update: object = None) -> tuple[int, str, str]:
        self.commands.append(" ".join(argv))
        code, out = next((v for k, v in self.answers.items() if " ".join(argv).startswith(k)), (0, ""))
        return code, out, ""

    def fail_json(self, msg: str) -> None:
        raise FailedError(msg)


@pytest.fixture
def component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = load()
    monkeypatch.setattr(module, "WANTS", str(tmp_path / "wants"))
    return module


def apply(component: Any, module: Module, **asked: Any) -> Any:
    kinds = ("packages", "users", "directories", "archives", "files", "units")
    one = component.Component(module)
    one.apply({kind: asked.get(kind, []) for kind in kinds})
    return one


def file(path: Path, content: str, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "content": content, "mode": "0640", "secret": False, "restart": "", **ME, **more}


def test_a_new_file_is_written_with_its_mode_and_its_unit_restarted(component: Any, tmp_path: Path) -> None:
    module = Module()
    done = apply(component, module, files=[file(tmp_path / "etc/a.json", "{}")], units=["a.service"])
    assert (tmp_path / "etc/a.json").read_text() == "{}"
    assert (tmp_path / "etc/a.json").stat().st_mode & 0o777 == 0o640
    assert module.commands == ["systemctl restart --no-block a.service"]
    assert (tmp_path / "wants/a.service").is_symlink()
    assert done.changes


def test_applied_twice_nothing_changes_and_only_the_units_state_is_asked(component: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "files": [file(tmp_path / "a", "x")],
        "directories": [{"path": str(tmp_path / "d"), "mode": "0750", **ME}],
        "units": ["a.service"],
    }
    apply(component, Module(), **asked)
    module = Module(answers={"systemctl is-active": (0, "active\n")})
    assert apply(component, module, **asked).changes == []
    assert module.commands == ["systemctl is-active a.service"]


def test_a_unit_that_is_down_is_started_though_nothing_changed(component: Any, tmp_path: Path) -> None:
    apply(component, Module(), units=["a.service"])
    module = Module(answers={"systemctl is-active": (3, "inactive\n")})
    assert apply(component, module, units=["a.service"]).changes == ["start a.service"]
    assert module.commands[-1] == "systemctl start --no-block a.service"


def test_a_changed_mode_is_put_right(component: Any, tmp_path: Path) -> None:
    apply(component, Module(), files=[file(tmp_path / "a", "x")])
    (tmp_path / "a").chmod(0o666)
    assert apply(component, Module(), files=[file(tmp_path / "a", "x")]).changes == [f"mode of {tmp_path / 'a'}"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_check_mode_tells_and_touches_nothing(component: Any, tmp_path: Path) -> None:
    module = Module(check=True)
    asked = {"files": [file(tmp_path / "a", "x")], "directories": [{"path": str(tmp_path / "d"), "mode": "0755", **ME}]}
    done = apply(component, module, **asked, users=["nobody-yet"], packages=["never-installed"], units=["a.service"])
    assert len(done.changes) == 5
    assert list(tmp_path.iterdir()) == []
    assert module.commands == []


def test_a_diff_shows_what_changes_but_never_a_secret(component: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old\n")
    done = apply(
        component,
        Module(),
        files=[file(tmp_path / "a", "new\n"), file(tmp_path / "key", "PRIVATE", secret=True)],
    )
    assert (done.diff[0]["before"], done.diff[0]["after"]) == ("old\n", "new\n")
    assert "PRIVATE" not in str(done.diff)


def test_a_file_read_by_another_unit_restarts_that_one(component: Any, tmp_path: Path) -> None:
    module = Module()
    apply(component, module, files=[file(tmp_path / "a", "x", restart="systemd-sysctl.service")])
    assert module.commands == ["systemctl restart systemd-sysctl.service"]


def test_an_archive_replaces_the_whole_folder_when_its_version_differs(component: Any, tmp_path: Path) -> None:
    source, app = tmp_path / "app.zip", tmp_path / "app"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("pkg/__init__.py", "")
    asked = [{"src": str(source), "dest": str(app), "version": "one"}]
    (app / "pkg").mkdir(parents=True)
    (app / "pkg/stale.py").touch()
    assert apply(component, Module(), archives=asked).changes == [f"unpack {app} one"]
    assert sorted(path.name for path in (app / "pkg").iterdir()) == ["__init__.py"]
    assert apply(component, Module(), archives=asked).changes == []


def test_a_program_that_fails_is_quoted(component: Any, tmp_path: Path) -> None:
    module = Module(answers={"systemctl restart": (5, "Unit a.service not found.")})
    with pytest.raises(FailedError, match=r"systemctl restart --no-block a.service exited with 5: Unit a.service not"):
        apply(component, module, files=[file(tmp_path / "a", "x")], units=["a.service"])


def test_packages_are_installed_only_where_missing(component: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component.Component, "_installed", staticmethod(lambda name: name == "here"))
    module = Module()
    apply(component, module, packages=["here", "gone"])
    assert module.commands == ["apt-get -q update", "apt-get -qy --no-install-recommends install gone"]
