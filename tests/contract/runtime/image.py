"""A docker archive made by hand from Debian's static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TOOLS = (
    *(
        "sh",
        "cat",
        "echo",
        "env",
        "false",
        "head",
        "hostname",
        "id",
        "ip",
        "kill",
        "ls",
        "nc",
        "sleep",
        "stat",
        "touch",
    ),
    *("true", "wget", "httpd", "tail", "dd", "ps", "tr", "yes", "tar", "stty", "wc"),
)


def archive(path: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Write an image called `name` to `path`; `config` is its OCI configuration (Cmd, Entrypoint, ...)."""
    layer = _layer()
    digest = hashlib.sha256(layer).hexdigest()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(document).encode()
    identity = hashlib.sha256(encoded).hexdigest()
    manifest = [{"Config": f"{identity}.json", "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(path, "w") as out:
        for file, content in (
            (f"{identity}.json", encoded),
            (f"{digest}.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            _add(out, file, content)
    return path


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tree:
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tree.addfile(entry)
        _add(tree, "bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        for tool in _TOOLS:
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tree.addfile(link)
        _add(tree, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
    return buffer.getvalue()


def _add(out: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    out.addfile(entry, io.BytesIO(content))
