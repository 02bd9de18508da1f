"""pods/log: what the kubelet of the pod's node answers, passed through as it comes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import urllib3

from labctl.kube.errors import BadRequest, ServerError, Unavailable
from labctl.kube.resources import NODES
from master.apiserver import problems
from master.apiserver.config import Config
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply
from master.apiserver.request import Request

Document = dict[str, Any]

_CONNECT_S, _READ_S = 5.0, 30.0
_FOLLOW_S = 4 * 3600.0
_OPTIONS = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")


def pod_log(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """GET: the container's log, while it grows if `follow` is set."""
    del form, warnings
    if request.method not in {"GET", "HEAD"}:
        raise problems.method_not_allowed()
    assert request.target is not None
    target = request.target
    pod = context.storage.get(kind, target.namespace, target.name).document
    container = _container(pod, request.query.get("container", ""))
    node_name = (pod.get("spec") or {}).get("nodeName", "")
    if not node_name:
        return Reply(b"", content_type="text/plain")
    node = context.storage.get(context.registry.of(NODES), "", node_name).document
    query = urlencode({name: request.query[name] for name in _OPTIONS if name in request.query})
    url = f"{kubelet_url(node)}/containerLogs/{target.namespace}/{target.name}/{container}?{query}"
    return Reply(_stream(context.config, url, follow=request.flag("follow")), content_type="text/plain")


def _container(pod: Document, wanted: str) -> str:
    """The container to read; the only one, or the one an annotation names, where none is given."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    groups = ("containers", "initContainers", "ephemeralContainers")
    names = [entry["name"] for group in groups for entry in spec.get(group) or ()]
    if wanted:
        if wanted not in names:
            raise BadRequest(f"container {wanted} is not valid for pod {name}", details={})
        return wanted
    main = [entry["name"] for entry in spec.get("containers") or ()]
    if len(main) == 1 and len(names) == 1:
        return str(main[0])
    init = [entry["name"] for entry in spec.get("initContainers") or ()]
    more = f" or one of the init containers: [{' '.join(init)}]" if init else ""
    raise BadRequest(
        f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]{more}", details={}
    )


def kubelet_url(node: Document) -> str:
    """Where the node's kubelet listens."""
    status = node.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 10250)
    for wanted in ("InternalIP", "Hostname"):
        for entry in status.get("addresses") or ():
            if entry.get("type") == wanted:
                return f"https://{entry['address']}:{port}"
    raise ServerError(f"no preferred addresses found; known addresses: {status.get('addresses') or []}", details={})


def _stream(config: Config, url: str, *, follow: bool) -> Iterator[bytes]:
    pool = urllib3.PoolManager(ssl_context=_context(config), assert_hostname=False, retries=False)
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_FOLLOW_S if follow else _READ_S)
    try:
        answer = pool.request("GET", url, timeout=timeout, preload_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f'Get "{url}": {error}', details={}) from error
    if answer.status >= 400:
        said = answer.data.decode(errors="replace").strip()
        answer.close()
        if answer.status < 500:
            raise BadRequest(said or f"the kubelet answered {answer.status}", details={})
        raise ServerError(said or f"the kubelet answered {answer.status}", details={})
    return _chunks(answer)


def _chunks(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := answer.read1():
            yield chunk
    except urllib3.exceptions.HTTPError:
        return  # the kubelet went away: the log ends here
    finally:
        answer.close()


def _context(config: Config) -> ssl.SSLContext:
    """The lab's CA signs kubelets; a node's address may not stand in its certificate, so the name is not compared."""
    context = ssl.create_default_context(cafile=config.client_ca_file)
    context.check_hostname = False
    if config.kubelet_client_cert_file:
        context.load_cert_chain(config.kubelet_client_cert_file, config.kubelet_client_key_file)
    return context
