from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.runtime.shell import Output
from labctl.vm import apt

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


class RecordingShell:
    def __init__(self) -> None:
        self.ran: list[list[str]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        words = [word for word in argv if word not in ("sudo", "env", "DEBIAN_FRONTEND=noninteractive")]
        self.ran.append([*words, stdin.decode() if isinstance(stdin, bytes) else stdin] if stdin else words)
        return Output(0, "", "")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    return tmp_path


def test_backports_come_from_the_mirror_the_host_uses(host: Path) -> None:
    source = apt.backports_source(host, "bookworm")
    assert "URIs: http://mirror.example/debian\nSuites: bookworm-backports" in source
    assert "Signed-By: /usr/share/keyrings/debian.gpg" in source


def test_a_classic_sources_list_serves_too(host: Path) -> None:
    (host / "etc/apt/sources.list.d/debian.sources").unlink()
    (host / "etc/apt/sources.list").write_text("deb [arch=amd64] http://old.example/debian bookworm main\n")
    assert "URIs: http://old.example/debian\n" in apt.backports_source(host, "bookworm")


def test_no_source_to_copy_is_said_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no apt source of bookworm"):
        apt.backports_source(tmp_path, "bookworm")


def test_only_what_the_release_has_too_old_is_taken_from_backports(host: Path) -> None:
    shell = RecordingShell()
    apt.install(["vagrant", "qemu-system-x86", "vagrant"], shell, host)
    assert shell.ran[0][0] == "tee"
    assert "bookworm-backports" in shell.ran[0][-1]
    assert shell.ran[-2][-1] == "vagrant"
    assert shell.ran[-1][-3:] == ["-t", "bookworm-backports", "qemu-system-x86"]


def test_nothing_missing_touches_nothing(host: Path) -> None:
    shell = RecordingShell()
    apt.install([], shell, host)
    assert shell.ran == []
