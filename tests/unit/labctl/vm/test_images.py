from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from labctl.runtime.errors import UsageError
from labctl.vm import box, images

BUSYBOX = b"\x7fELF busybox"


def read(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        return {name: file.read() for name, file in files.items() if file}


def unpacked(name: str) -> tuple[dict[str, Any], bytes]:
    """The image's configuration and its layer."""
    files = read(images.archive(name, BUSYBOX))
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == [name]
    return json.loads(files[entry["Config"]]), files[entry["Layers"][0]]


@pytest.mark.parametrize("name", images.NAMES)
def test_an_archive_is_what_docker_save_would_write(name: str) -> None:
    config, layer = unpacked(name)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["Cmd"]
    assert read(layer)["bin/busybox"] == BUSYBOX


@pytest.mark.parametrize("name", images.NAMES)
def test_the_same_busybox_gives_the_same_bytes(name: str) -> None:
    assert images.archive(name, BUSYBOX) == images.archive(name, BUSYBOX)


def test_the_web_image_serves_and_says_where() -> None:
    config, layer = unpacked("lab.local/web:1")
    assert config["config"]["ExposedPorts"] == {"8080/tcp": {}}
    (program,) = config["config"]["Cmd"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getmember(program.lstrip("/")).mode == 0o755
    script = read(layer)["bin/serve"].decode()
    assert "trap" in script  # process 1 gets no SIGTERM without a handler


def test_an_image_is_built_from_the_nodes_own_busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_bytes(BUSYBOX)
    monkeypatch.setattr(box, "rootfs", lambda *_: tmp_path)
    assert images.build("lab.local/busybox:1", tmp_path) == images.archive("lab.local/busybox:1", BUSYBOX)


def test_an_unknown_image_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        images.build("nginx", tmp_path)
    assert "lab.local/web:1" in caught.value.hint
