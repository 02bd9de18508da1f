"""Kubeconfigs: read from YAML as people have them and from JSON as nodes have them; what is neither is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from labctl.kube.kubeconfig import Endpoint, load, render
from labctl.runtime.errors import UsageError

SERVERS = ("https://10.0.0.1:6443", "https://10.0.0.2:6443")


@pytest.fixture
def document(tmp_path: Path) -> dict[str, object]:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(f"the {name}\n")
    text = render("lab", SERVERS, "proxy", {name: f"{name}.pem" for name in ("ca", "cert", "key")})
    found: dict[str, object] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("write", [yaml.safe_dump, lambda document: msgspec.json.encode(document).decode()])
def test_yaml_and_json_say_the_same(tmp_path: Path, document: dict[str, object], write: object) -> None:
    assert callable(write)
    (tmp_path / "config").write_text(write(document))
    assert load(tmp_path / "config") == Endpoint(
        servers=SERVERS, ca_pem="the ca\n", cert_pem="the cert\n", key_pem="the key\n"
    )


def test_json_is_read_without_the_yaml_library(tmp_path: Path, document: dict[str, object]) -> None:
    (tmp_path / "config").write_bytes(msgspec.json.encode(document))
    script = "import sys; from labctl.kube.kubeconfig import load; load(sys.argv[1]); sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "config"], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("text", ["", "{", "clusters: [", "[]", "current-context: none\ncontexts: []\n"])
def test_what_is_neither_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageError, match="config: not a usable kubeconfig"):
        load(tmp_path / "config")
