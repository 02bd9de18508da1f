"""Reading a kubeconfig: the current context's server and credentials."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from labctl.runtime.errors import UsageError


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is and who we are there; files are paths."""

    servers: tuple[str, ...]  # tried in order, a working one is kept
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token: str = ""
    namespace: str = "default"


def load(path: str | Path) -> Endpoint:
    """Read the current context of `path`; UsageError names what is missing.

    Inline data is written to private temporary files, since Python's TLS reads certificates from files.
    `servers` beyond the first come from the cluster's extension `labctl/servers` (a list of URLs).
    """
    try:
        with open(path, encoding="utf-8") as file:
            config = yaml.safe_load(file)
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
        server = cluster["server"]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="labctl up writes a lab's kubeconfig") from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a usable kubeconfig: {error}") from error
    more = [entry["extension"] for entry in cluster.get("extensions") or () if entry.get("name") == "labctl/servers"]
    base = Path(path).parent
    return Endpoint(
        servers=tuple(dict.fromkeys([server, *(more[0] if more else ())])),
        ca_file=_file(cluster, "certificate-authority", base),
        cert_file=_file(user, "client-certificate", base),
        key_file=_file(user, "client-key", base),
        token=user.get("token", ""),
        namespace=context.get("namespace") or "default",
    )


def _named(config: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    for entry in config[section]:
        if entry["name"] == name:
            return dict(entry)
    raise KeyError(f"no {name!r} in {section}")


def _file(entry: Mapping[str, Any], field: str, base: Path) -> str:
    if data := entry.get(f"{field}-data"):
        with tempfile.NamedTemporaryFile(prefix="labctl-", suffix=".pem", delete=False) as file:  # mode 0600
            file.write(base64.b64decode(data))
            return file.name
    path = entry.get(field)
    return str(base / path) if path else ""
