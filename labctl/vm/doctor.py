"""What this host needs for a lab, what it lacks, and how to mend it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

from labctl.config import Settings
from labctl.vm import apt, box, tools
from labctl.vm.progress import Reporter
from labctl.vm.provider import Problem
from labctl.vm.registry import provider_named

_MEMORY_MIB = 3 * 1024  # one master and two workers of 1 GiB
_DISK_GIB = 8  # box, its root file system, three machines' disks


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; `mend` says what to do where it is not `ok`."""

    what: str
    ok: bool
    mend: str = ""


def examine(names: Iterable[str], settings: Settings) -> list[Finding]:
    """Look at memory, disk, the tools for machines and box, and each named provider."""
    findings = [_memory(), _disk(settings)]
    findings += _found("nodes", "the tools to reach and provision machines are here", _everywhere())
    findings += _found("box", "the tools to build the box are here", box.problems())
    for name in names:
        provider = provider_named(name)
        problems = provider.problems()
        findings += _found(name, "" if problems else provider.describe(), problems)
    return findings


def mend(names: Iterable[str], reporter: Reporter) -> None:
    """Install the packages that would mend what is missing."""
    problems = [*_everywhere(), *box.problems()]
    problems += [problem for name in names for problem in provider_named(name).problems()]
    packages = sorted({package for problem in problems for package in problem.packages})
    if packages:
        with reporter.phase(f"install {' '.join(packages)}"):
            apt.install(packages)


def _everywhere() -> Sequence[Problem]:
    return tools.problems(tools.absent(tools.EVERYWHERE))


def _found(subject: str, fine: str, problems: Iterable[Problem]) -> list[Finding]:
    found = [Finding(f"{subject}: {problem.what}", False, problem.mend) for problem in problems]
    return found or [Finding(f"{subject}: {fine}", True)]


def _memory() -> Finding:
    available_mib = psutil.virtual_memory().available // 2**20
    return Finding(
        f"memory: {available_mib / 1024:.1f} GiB free, {_MEMORY_MIB / 1024:.0f} GiB wanted for three machines",
        available_mib >= _MEMORY_MIB,
        "stop something, or make smaller machines in lab.yaml",
    )


def _disk(settings: Settings) -> Finding:
    place = _existing(settings.cache_dir)
    free_gib = shutil.disk_usage(place).free / 2**30
    return Finding(
        f"disk: {free_gib:.0f} GiB free under {place}, {_DISK_GIB} GiB wanted",
        free_gib >= _DISK_GIB,
        "make room, or set LABCTL_CACHE_DIR to a larger file system",
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
