"""The node's root file system and the Vagrant box made of it: built from Debian packages alone, cached, shared.

VMs and system containers run the same tree. Nothing of one lab is in it: no password, no key, no name, no address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from labctl.config import settings
from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, LocalShell, Shell
from labctl.vm import nerdctl, tools
from labctl.vm.box import disk, mirror, recipe
from labctl.vm.box.cache import cached, hold, key_of
from labctl.vm.provider import Problem, Progress

__all__ = ["box", "hold", "kubectl", "problems", "rootfs"]

_HERE = Path(__file__).parent
_ROOTFS_S = 1_200.0
_TOOLS = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "qemu-img": "qemu-utils", "unxz": "xz-utils"}
_NOTES = ("I:", "W:", "E:")  # how mmdebstrap's own lines begin, and apt's
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def problems() -> Sequence[Problem]:
    """What this host lacks to build the box."""
    found = [*tools.problems(tools.absent(_TOOLS))]
    if not Path(_KEYRING).exists():
        package = "debian-archive-keyring"
        found.append(Problem("Debian's archive keys are not installed", f"apt-get install {package}", (package,)))
    return found


def rootfs(cache_dir: Path, progress: Progress, shell: Shell | None = None) -> Path:
    """The root file system of a node, unpacked; read-only for everyone: put an overlay over it."""
    shell = shell or LocalShell()
    program = nerdctl.binary(cache_dir, progress, shell)
    key = _rootfs_key(shell.run([str(program), "--version"], timeout_s=10).stdout)

    def build(target: Path) -> None:
        _check()
        progress("", "building the node's root file system from Debian packages")
        _bootstrap(target, program, shell)

    return cached(cache_dir, "rootfs", key, build)


def box(cache_dir: Path, progress: Progress, shell: Shell | None = None) -> Path:
    """The Vagrant box (node.box); beside it lie the kernel and the initial RAM disk that are in it."""
    shell = shell or LocalShell()
    tree = rootfs(cache_dir, progress, shell)
    key = key_of(tree.name.encode(), *_contents("disk.py", "initrd.py", "init.sh"))

    def build(target: Path) -> None:
        _check()
        progress("", "packing the box")
        disk.pack(tree, target, shell)

    return cached(cache_dir, "box", key, build) / "node.box"


def kubectl(cache_dir: Path) -> str | None:
    """The path of the kubectl that is in a node's root file system, where one was built."""
    found = sorted(cache_dir.glob("rootfs-*/usr/bin/kubectl"), key=lambda path: path.parents[2].stat().st_mtime)
    return str(found[-1]) if found else None


def _rootfs_key(nerdctl_version: str) -> str:
    laid_over = [path for path in sorted(_roles().glob("*/files/**/*")) if path.is_file()]
    names = [f"{path.relative_to(_roles())}\0".encode() for path in laid_over]
    contents = [*_contents("recipe.py", "customise.sh"), *names, *(path.read_bytes() for path in laid_over)]
    return key_of(nerdctl_version.encode(), *contents)


def _roles() -> Path:
    return settings().project_root / "playbooks/roles"


def _contents(*names: str) -> Iterator[bytes]:
    return ((_HERE / name).read_bytes() for name in names)


def _check() -> None:
    for problem in problems():
        raise LabError(problem.what, hint=problem.mend)
    if os.geteuid() != 0:
        raise LabError("building a root file system needs root", hint="run `sudo labctl box build` once")


def _bootstrap(target: Path, program: Path, shell: Shell) -> None:
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"]
    argv += [f"--keyring={_KEYRING}", f"--include={','.join(recipe.PACKAGES)}"]
    argv += [f"--dpkgopt=path-exclude={path}" for path in recipe.EXCLUDED_PATHS]
    argv += [f'--customize-hook=sh "{_HERE / "customise.sh"}" "$1"', recipe.SUITE, str(target)]
    environment = {
        "LC_ALL": "C.UTF-8",
        "KERNEL_PACKAGE": recipe.KERNEL_PACKAGE,
        "NERDCTL": str(program),
        "ROLES": str(_roles()),
        "DISABLED_UNITS": " ".join(recipe.DISABLED_UNITS),
        "MASKED_UNITS": " ".join(recipe.MASKED_UNITS),
        "MASKED_GENERATORS": " ".join(recipe.MASKED_GENERATORS),
    }
    try:
        shell.run([*argv, *mirror.sources(recipe.SUITE)], env=environment, timeout_s=_ROOTFS_S)
    except CommandError as error:
        raise LabError(
            f"mmdebstrap could not build the root file system: {_last_words(error)}",
            hint=f"does the host's Debian mirror have {recipe.SUITE}? `mmdebstrap {recipe.SUITE} /dev/null` tells",
        ) from error


def _last_words(error: CommandError) -> str:
    """The line that says why: what our script or a package said last, else apt's first complaint."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    if any("customise.sh" in line for line in lines) and (said := [ln for ln in lines if not ln.startswith(_NOTES)]):
        return said[-1]
    told = [line for line in lines if line.startswith(("E:", "Err:", "W: Failed"))]
    return (told or lines or [str(error)])[0]
