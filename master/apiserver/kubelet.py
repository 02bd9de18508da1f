"""The way to kubelets: where a node's kubelet listens, with which certificates we speak, and what its refusals mean."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any

import msgspec

from labctl.kube.errors import BadRequest, ServerError
from labctl.kube.resources import NODES
from labctl.runtime.tls import isolated
from master.apiserver.config import Config
from master.apiserver.context import Context

Document = dict[str, Any]

CONNECT_S, READ_S = 10.0, 30.0
_PORT = 10250


def location(context: Context, pod: Document) -> tuple[str, int]:
    """Host and port of the kubelet of a pod's node; BadRequest while the pod has none."""
    name = (pod.get("spec") or {}).get("nodeName", "")
    if not name:
        raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned", details={})
    return address(context.storage.get(context.registry.of(NODES), "", name).document)


def address(node: Document) -> tuple[str, int]:
    """Host and port of a node's kubelet, by the first of its addresses that is of a preferred type."""
    status = node.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or _PORT
    for wanted in ("InternalIP", "Hostname"):
        for entry in status.get("addresses") or ():
            if entry.get("type") == wanted:
                return str(entry["address"]), int(port)
    raise ServerError(f"no preferred addresses found; known addresses: {status.get('addresses') or []}", details={})


@lru_cache(maxsize=4)
def tls(config: Config) -> ssl.SSLContext:
    """Our client certificate, and the lab's CA, which a kubelet's certificate must come from and bear its address."""
    context = ssl.create_default_context(cafile=config.client_ca_file)
    if config.kubelet_client_cert_file:
        context.load_cert_chain(config.kubelet_client_cert_file, config.kubelet_client_key_file)
    return isolated(context)


def said(body: bytes) -> str:
    """The words of a kubelet's refusal: a Status's message, or plain text."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return body.decode(errors="replace").strip()
    if isinstance(document, dict) and document.get("kind") == "Status":
        return str(document.get("message", ""))
    return body.decode(errors="replace").strip()


def container_of(pod: Document, wanted: str) -> str:
    """The container that is meant; the pod's only one where none is given. Source: k/k `pod/strategy.go`."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    groups = ("initContainers", "containers", "ephemeralContainers")
    names = [str(entry["name"]) for group in groups for entry in spec.get(group) or ()]
    if wanted:
        if wanted not in names:
            raise BadRequest(f"container {wanted} is not valid for pod {name}", details={})
        return wanted
    main = [str(entry["name"]) for entry in spec.get("containers") or ()]
    if len(main) == 1:
        return main[0]
    choice = f", choose one of: [{' '.join(names)}]" if main else ""
    raise BadRequest(f"a container name must be specified for pod {name}{choice}", details={})
