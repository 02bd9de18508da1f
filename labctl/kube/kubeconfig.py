"""Kubeconfigs: reading the current context's servers and credentials, and writing one."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from labctl.runtime.errors import UsageError


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is and who we are there; certificates and key as PEM text."""

    servers: tuple[str, ...]  # tried in order, a working one is kept
    ca_pem: str = ""
    cert_pem: str = ""
    key_pem: str = ""
    token: str = ""
    namespace: str = "default"


def load(path: str | Path) -> Endpoint:
    """Read the current context of `path`; UsageError names what is missing.

    `servers` beyond the first come from the cluster's extension `labctl/servers` (a list of URLs).
    """
    try:
        config = _parsed(Path(path).read_text(encoding="utf-8"))
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
        server = cluster["server"]
        base = Path(path).parent
        ca_pem = _pem(cluster, "certificate-authority", base)
        cert_pem = _pem(user, "client-certificate", base)
        key_pem = _pem(user, "client-key", base)
    except OSError as error:
        hint = "labctl up writes a lab's kubeconfig"
        raise UsageError(f"{error.filename or path}: {error.strerror}", hint=hint) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a usable kubeconfig: {error}") from error
    more = [entry["extension"] for entry in cluster.get("extensions") or () if entry.get("name") == "labctl/servers"]
    return Endpoint(
        servers=tuple(dict.fromkeys([server, *(more[0] if more else ())])),
        ca_pem=ca_pem,
        cert_pem=cert_pem,
        key_pem=key_pem,
        token=user.get("token", ""),
        namespace=context.get("namespace") or "default",
    )


def render(cluster: str, servers: Sequence[str], user: str, credentials: Mapping[str, str]) -> str:
    """A kubeconfig with one context. `credentials`: `ca`, `cert` and `key`, each PEM text (kept inline) or a path.

    Servers beyond the first go into the cluster's extension `labctl/servers`, which our own clients read.
    """
    import yaml  # noqa: PLC0415 - see `_parsed`

    fields = {"ca": "certificate-authority", "cert": "client-certificate", "key": "client-key"}
    entries = {}
    for name, value in credentials.items():
        inline = value.startswith("-----BEGIN")
        entries[name] = (
            {f"{fields[name]}-data": base64.b64encode(value.encode()).decode()} if inline else {fields[name]: value}
        )
    more = [{"name": "labctl/servers", "extension": list(servers)}] if len(servers) > 1 else []
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": servers[0], **entries["ca"], **({"extensions": more} if more else {})},
            }
        ],
        "users": [{"name": user, "user": {**entries["cert"], **entries["key"]}}],
        "contexts": [{"name": f"{user}@{cluster}", "context": {"cluster": cluster, "user": user}}],
        "current-context": f"{user}@{cluster}",
        "preferences": {},
    }
    return yaml.safe_dump(document, sort_keys=False)


def _parsed(text: str) -> Any:
    """The document; ValueError. Components find JSON, which is YAML too, and do without the slow import."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        import yaml  # noqa: PLC0415

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error


def _named(config: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    for entry in config[section]:
        if entry["name"] == name:
            return dict(entry)
    raise KeyError(f"no {name!r} in {section}")


def _pem(entry: Mapping[str, Any], field: str, base: Path) -> str:
    """Inline data, else the file's text, else ""."""
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data, validate=True).decode()
    path = entry.get(field)
    return (base / path).read_text(encoding="utf-8") if path else ""
