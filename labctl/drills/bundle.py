"""Everything that a drill left, in one archive to send to somebody: report, page, record, and the flight recorder's.

Keys and kubeconfigs lie elsewhere and are never packed; but logs are logs: read them before you send them on.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from labctl.drills.compare import JSON_NAME
from labctl.runtime.errors import LabError, UsageError

_MOST_BYTES = 1_000_000_000
SUFFIXES = (".tar.gz", ".tar.zst")


def newest(drills_dir: Path) -> Path:
    """The folder of the latest run that has a report; UsageError where there is none."""
    runs = sorted(path.parent for path in drills_dir.glob(f"*/{JSON_NAME}"))
    if not runs:
        raise UsageError("no drill has left a report on this lab", hint="labctl drill run worker-power-loss")
    return runs[-1]


def pack(run_dir: Path, archive: Path) -> tuple[int, int]:
    """Pack a run's folder; (files, bytes of the archive). The same folder gives the same bytes.

    UsageError for an archive's name that is neither .tar.gz nor .tar.zst, LabError where it cannot be written.
    """
    if not archive.name.endswith(SUFFIXES):
        raise UsageError(f"{archive}: an archive is named {' or '.join(SUFFIXES)}")
    files = list(_files(run_dir, archive))
    if (size := sum(path.stat().st_size for path in files)) > _MOST_BYTES:
        raise LabError(f"{run_dir} holds {size / 1e9:.1f} GB: too much for one archive")
    draft = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            _zstd(run_dir, files, out) if archive.name.endswith(".zst") else _gzip(run_dir, files, out)
        os.replace(draft, archive)
    except (OSError, tarfile.TarError) as error:
        raise LabError(f"{archive}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return len(files), archive.stat().st_size


def _files(run_dir: Path, archive: Path) -> Iterator[Path]:
    for path in sorted(run_dir.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.resolve() != archive.resolve():
            yield path


def _gzip(run_dir: Path, files: list[Path], out: IO[bytes]) -> None:
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed:
        _tar(run_dir, files, packed)


def _zstd(run_dir: Path, files: list[Path], out: IO[bytes]) -> None:
    if shutil.which("zstd") is None:
        raise UsageError("zstd is not installed", hint="apt-get install zstd, or name the archive .tar.gz")
    with subprocess.Popen(["zstd", "-q", "-T0", "-c"], stdin=subprocess.PIPE, stdout=out) as program:
        assert program.stdin is not None
        with program.stdin as packed:
            _tar(run_dir, files, packed)
    if program.returncode:
        raise LabError(f"zstd failed with exit code {program.returncode}")


def _tar(run_dir: Path, files: list[Path], out: IO[bytes] | gzip.GzipFile) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path in files:
            entry = tar.gettarinfo(path, arcname=f"{run_dir.name}/{path.relative_to(run_dir)}")
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime, entry.mode = int(entry.mtime), 0o600
            with path.open("rb") as file:
                tar.addfile(entry, file)
