"""The program that roles are made of, in this process: what it does to files, and which programs it asks for."""

from __future__ import annotations

import base64
import grp
import importlib.util
import io
import json
import os
import pwd
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "playbooks/on_node/component.py"
ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
NOTHING: dict[str, Any] = {
    "packages": [],
    "users": [],
    "directories": [],
    "archives": [],
    "files": [],
    "units": [],
}


class Node:
    """A node whose programs answer as told: `answers` maps a command's first words to (code, output)."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.answers: dict[str, tuple[int, str]] = {}
        self.commands: list[str] = []

    def run(self, argv: list[str]) -> tuple[int, str]:
        self.commands.append(" ".join(argv))
        return next((v for k, v in self.answers.items() if " ".join(argv).startswith(k)), (0, ""))

    def apply(self, *, check: bool = False, **asked: Any) -> Any:
        """One component's changes, diff and wishes; `commands` are those of this call."""
        self.commands = []
        component = self.program.Component(check, self.run)
        component.apply({**NOTHING, **asked})
        return vars(component)

    def start(self) -> list[str]:
        """What the start changed."""
        self.commands = []
        component = self.program.Component(False, self.run)
        component.start()
        changes: list[str] = component.changes
        return changes

    def put_in_place(self, *components: dict[str, Any]) -> Any:
        """The program's whole answer, units started."""
        self.commands = []
        asked = [{**NOTHING, "name": f"role{number}", **one} for number, one in enumerate(components)]
        return self.program.put_in_place({"check": False, "components": asked}, self.run)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    spec = importlib.util.spec_from_file_location("component", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "WANTS", str(tmp_path / "wants"))
    monkeypatch.setattr(program, "PENDING", str(tmp_path / "pending.json"))
    return Node(program)


def zipped(name: str) -> str:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "")
    return base64.b64encode(stream.getvalue()).decode()


def file(path: Path, content: str, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "content": content, "mode": "0640", "secret": False, "restart": "", **ME, **more}


def test_a_new_file_is_written_with_its_mode_and_its_unit_enabled_but_not_started_yet(
    node: Node, tmp_path: Path
) -> None:
    answer = node.apply(files=[file(tmp_path / "etc/a.json", "{}")], units=["a.service"])
    assert (tmp_path / "etc/a.json").read_text() == "{}"
    assert (tmp_path / "etc/a.json").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "wants/a.service").is_symlink()
    assert answer["changes"] == [f"write {tmp_path}/etc/a.json", "enable a.service"]
    assert node.commands == []


@pytest.mark.parametrize(("known", "reloads"), [("no\n\nno\n", 0), ("no\n\nyes\n", 1)])
def test_the_start_restarts_all_that_changed_after_a_reload_where_systemd_knows_older_files(
    node: Node, tmp_path: Path, known: str, reloads: int
) -> None:
    node.apply(files=[file(tmp_path / "a", "x")], units=["a.service"])
    node.apply(files=[file(tmp_path / "b", "x")], units=["b.service"])
    node.answers = {"systemctl show": (0, known)}
    assert node.start()
    assert node.commands == [
        "systemctl show --property=NeedDaemonReload --value a.service b.service",
        *["systemctl daemon-reload"] * reloads,
        "systemctl restart --no-block a.service b.service",
    ]


def test_applied_twice_nothing_changes_and_only_the_units_states_are_asked(node: Node, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "files": [file(tmp_path / "a", "x")],
        "directories": [{"path": str(tmp_path / "d"), "mode": "0750", **ME}],
        "units": ["a.service", "b.service"],
    }
    node.apply(**asked)
    node.start()
    assert node.apply(**asked)["changes"] == []
    node.answers = {"systemctl is-active": (0, "active\nactivating\n")}
    assert not node.start()
    assert node.commands == ["systemctl is-active a.service b.service"]


def test_a_unit_that_is_down_is_started_though_nothing_changed(node: Node) -> None:
    node.apply(units=["a.service", "b.service"])
    node.start()
    node.apply(units=["a.service", "b.service"])
    node.answers = {"systemctl is-active": (3, "active\nfailed\n")}
    assert node.start() == ["start b.service"]
    assert node.commands[-1] == "systemctl start --no-block b.service"


def test_a_run_that_was_cut_short_is_made_up_for(node: Node, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"files": [file(tmp_path / "a", "new")], "units": ["a.service"]}
    node.apply(**asked)  # and the start never came
    node.apply(**asked)
    node.start()
    assert "systemctl restart --no-block a.service" in node.commands


def test_a_changed_mode_is_put_right(node: Node, tmp_path: Path) -> None:
    node.apply(files=[file(tmp_path / "a", "x")])
    (tmp_path / "a").chmod(0o666)
    assert node.apply(files=[file(tmp_path / "a", "x")])["changes"] == [f"mode of {tmp_path / 'a'}"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_check_mode_tells_and_touches_nothing(node: Node, tmp_path: Path) -> None:
    answer = node.apply(
        check=True,
        files=[file(tmp_path / "a", "x", restart="z.service")],
        directories=[{"path": str(tmp_path / "d"), "mode": "0755", **ME}],
        archives=[{"dest": str(tmp_path / "app"), "version": "one"}],
        users=["nobody-yet"],
        packages=["never-installed"],
        units=["a.service"],
    )
    assert len(answer["changes"]) == 6
    assert list(tmp_path.iterdir()) == []
    assert node.commands == []


def test_a_diff_shows_what_changes_but_never_a_secret(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old\n")
    answer = node.apply(files=[file(tmp_path / "a", "new\n"), file(tmp_path / "key", "PRIVATE", secret=True)])
    assert (answer["diff"][0]["before"], answer["diff"][0]["after"]) == ("old\n", "new\n")
    assert "PRIVATE" not in str(answer)


def test_a_file_read_by_other_units_restarts_those_at_once(node: Node, tmp_path: Path) -> None:
    node.apply(files=[file(tmp_path / "a", "x", restart="systemd-sysctl.service b.service")])
    assert node.commands == ["systemctl restart b.service systemd-sysctl.service"]


def test_an_archive_is_asked_for_only_where_its_version_differs_and_replaces_the_folder(
    node: Node, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    asked = {"dest": str(app), "version": "one"}
    (app / "pkg").mkdir(parents=True)
    (app / "pkg/stale.py").touch()
    asking = node.apply(archives=[asked], files=[file(tmp_path / "a", "x")])
    assert asking["wanted"] == [str(app)]
    assert not (tmp_path / "a").exists()
    assert node.apply(archives=[{**asked, "data": zipped("pkg/__init__.py")}])["changes"] == [f"unpack {app} one"]
    assert sorted(path.name for path in (app / "pkg").iterdir()) == ["__init__.py"]
    assert node.apply(archives=[asked])["wanted"] == []


def test_a_program_that_fails_is_quoted(node: Node, tmp_path: Path) -> None:
    node.answers = {"systemctl restart": (5, "Unit z.service not found.\n")}
    with pytest.raises(node.program.Failure, match=r"systemctl restart z.service exited with 5: Unit z.service not"):
        node.apply(files=[file(tmp_path / "a", "x", restart="z.service")])


def test_packages_are_installed_only_where_missing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.program.Component, "_installed", staticmethod(lambda name: name == "here"))
    node.apply(packages=["here", "gone"])
    assert node.commands == ["apt-get -q update", "apt-get -qy --no-install-recommends install gone"]


def test_components_are_put_in_place_in_order_and_then_started_together(node: Node, tmp_path: Path) -> None:
    answer = node.put_in_place(
        {"files": [file(tmp_path / "a", "x")], "units": ["a.service"]},
        {"files": [file(tmp_path / "b", "x")], "units": ["b.service"]},
    )
    assert [(one["name"], len(one["changes"])) for one in answer["components"]] == [
        ("role0", 2),
        ("role1", 2),
        ("units", 1),
    ]
    assert node.commands[-1] == "systemctl restart --no-block a.service b.service"


def test_nothing_behind_a_wanted_archive_is_touched_until_it_is_sent(node: Node, tmp_path: Path) -> None:
    app = {"dest": str(tmp_path / "app"), "version": "one"}
    behind = {"files": [file(tmp_path / "b", "x")], "units": ["b.service"]}
    asking = node.put_in_place({"archives": [app]}, behind)
    assert asking["wanted"] == [str(tmp_path / "app")]
    assert not (tmp_path / "b").exists()
    assert node.commands == []
    sent = node.put_in_place({"archives": [{**app, "data": zipped("pkg/__init__.py")}]}, behind)
    assert sent["wanted"] == []
    assert (tmp_path / "b").read_text() == "x"


def test_a_component_that_fails_is_named_and_nothing_behind_it_starts(node: Node, tmp_path: Path) -> None:
    node.answers = {"systemctl restart": (5, "Unit z.service not found.\n")}
    answer = node.put_in_place(
        {"files": [file(tmp_path / "a", "x", restart="z.service")]}, {"files": [file(tmp_path / "b", "x")]}
    )
    assert answer["failed"] is True
    assert answer["msg"].startswith("role0: systemctl restart z.service exited with 5")
    assert not (tmp_path / "b").exists()


def test_an_archive_that_arrives_broken_fails_and_leaves_what_was_there(node: Node, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/kept").touch()
    broken = {"dest": str(tmp_path / "app"), "version": "two", "data": base64.b64encode(b"no zip").decode()}
    assert "not a zip file" in node.put_in_place({"archives": [broken]})["msg"]
    assert (tmp_path / "app/kept").exists()


def test_as_a_program_it_answers_with_json_and_says_what_failed(tmp_path: Path) -> None:
    wish = {**NOTHING, "name": "kubelet", "files": [file(tmp_path / "a", "x", owner="no-such-user")]}
    asked = {"check": False, "components": [wish]}
    done = subprocess.run(
        [sys.executable, "-ISE", PROGRAM], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["failed"] is True
    assert answer["msg"].startswith("kubelet: ")
    assert "no-such-user" in answer["msg"]
