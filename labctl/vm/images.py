"""Container images built by hand, for labs without a registry: docker archives around Debian's static busybox.

The layout is that of `docker save` (manifest.json, a configuration, one layer). Same busybox, same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.runtime.errors import LabError, UsageError
from labctl.vm import box
from labctl.vm.provider import Progress

_CREATED = "2025-01-01T00:00:00Z"  # any fixed moment: same content, same bytes
_APPLETS = (
    *("ash", "awk", "base64", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg", "du", "echo", "env"),
    *("expr", "false", "find", "free", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "md5sum"),
    *("mkdir", "mktemp", "mount", "mv", "nc", "netstat", "nslookup", "od", "ping", "printf", "ps", "pwd"),
    *("readlink", "rm", "rmdir", "route", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "sync", "tail"),
    *("tar", "tee", "telnet", "test", "timeout", "top", "touch", "tr", "traceroute", "true", "uname", "uniq", "usleep"),
    *("vi", "watch", "wc", "wget", "which", "whoami", "xargs", "yes"),
)
_FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnobody:x:65534:\n",
}

# Answers every GET with 200 and the pod's name. httpd forks per request, so a slow client delays nobody. As
# process 1 a program without a handler never sees SIGTERM: the shell traps it and takes httpd down with it.
_SERVE = b"""\
#!/bin/sh
port=${PORT:-8080}
mkdir -p /tmp/www
printf '%s\\n' "${POD_NAME:-$(hostname)}" > /tmp/www/index.html
httpd -f -p "$port" -h /tmp/www &
server=$!
trap 'kill $server; exit 0' TERM INT
wait $server
"""


@dataclass(frozen=True, slots=True)
class _Image:
    """What one image adds to busybox; `config` as in the OCI image specification."""

    config: Mapping[str, object]
    files: Mapping[str, bytes] = field(default_factory=dict)


_ENVIRONMENT = ["PATH=/bin"]
_IMAGES = {
    "lab.local/busybox:1": _Image({"Env": _ENVIRONMENT, "Cmd": ["sh"], "WorkingDir": "/"}),
    "lab.local/web:1": _Image(
        {
            "Env": _ENVIRONMENT,
            "Cmd": ["/bin/serve"],
            "ExposedPorts": {"8080/tcp": {}},
            "StopSignal": "SIGTERM",
            "WorkingDir": "/",
        },
        {"bin/serve": _SERVE},
    ),
}
NAMES: Sequence[str] = tuple(_IMAGES)


def build(name: str, cache_dir: Path, progress: Progress = lambda *_: None) -> bytes:
    """The docker archive of one of `NAMES`, made from the busybox in the nodes' root file system."""
    if name not in _IMAGES:
        raise UsageError(f"labctl builds no image {name!r}", hint=f"it builds {', '.join(NAMES)}")
    program = box.rootfs(cache_dir, progress) / "usr/bin/busybox"
    if not program.is_file():
        raise LabError(f"{program} is missing", hint="remove that root file system; `labctl box build` makes it anew")
    return archive(name, program.read_bytes())


def archive(name: str, busybox: bytes) -> bytes:
    """The docker archive of `name` around the program `busybox`."""
    image = _IMAGES[name]
    layer = _layer(busybox, image.files)
    layer_digest = hashlib.sha256(layer).hexdigest()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created": _CREATED, "created_by": "labctl"}],
    }
    config = json.dumps(document, sort_keys=True).encode()
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", f"{layer_digest}.tar"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, config_name, config)
        _add(tar, layer_name, layer)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()


def _layer(busybox: bytes, files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in [*_FOLDERS.items(), ("tmp", 0o1777)]:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        _add(tar, "bin/busybox", busybox, 0o755)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, content in {**_FILES, **files}.items():
            _add(tar, name, content, 0o755 if name.startswith("bin/") else 0o644)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
