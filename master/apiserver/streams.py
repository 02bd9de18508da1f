"""pods/exec, pods/attach, pods/portforward: checked here, carried out by the kubelet of the pod's node.

Whatever the client speaks (WebSocket or SPDY) passes through as it comes. Source: k/k `pkg/registry/core/pod/rest`,
`pkg/registry/core/pod/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

import msgspec

from labctl.kube.errors import BadRequest
from master.apiserver import kubelet, problems
from master.apiserver.context import Context
from master.apiserver.joined import Place, upgrade, wants_upgrade
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply
from master.apiserver.request import Request, parse_query

FORMLESS = frozenset({"attach", "exec", "log", "portforward", "proxy"})  # bytes: there is no format to agree on
_COMMANDS = {"exec", "attach"}
_FLAGS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}  # the API's names, the kubelet's


def connect(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """GET or POST with an upgrade."""
    del form, warnings
    if request.method not in {"GET", "POST"}:
        raise problems.method_not_allowed()
    assert request.target is not None
    target = request.target
    if request.method == "GET":  # a WebSocket needs what a POST needs, too: since 1.35 `get` alone opens no stream
        context.authorizer.authorize(msgspec.structs.replace(request, method="POST"))
    pod = context.storage.get(kind, target.namespace, target.name).document
    words = [target.namespace, target.name]
    if target.subresource in _COMMANDS:
        words.append(kubelet.container_of(pod, request.query.get("container", "")))
    host, port = kubelet.location(context, pod)
    if not wants_upgrade(request.environ):
        raise BadRequest("Upgrade request required", details={})
    verb = "portForward" if target.subresource == "portforward" else target.subresource
    path = "/".join(quote(word, safe="") for word in (verb, *words))
    query = _query(target.subresource, request.environ)
    place = Place(host, port, kubelet.tls(context.config))
    return upgrade(request.environ, place, f"/{path}{'?' if query else ''}{query}")


def _query(verb: str, environ: Mapping[str, object]) -> str:
    """The options under the kubelet's names."""
    pairs = parse_query(str(environ.get("QUERY_STRING", "")))
    given = dict(reversed(pairs))
    if verb == "portforward":
        return urlencode([("port", value) for name, value in pairs if name == "ports"])
    wanted = [(theirs, "1") for ours, theirs in _FLAGS.items() if _is_set(given.get(ours, "0"))]
    return urlencode([*wanted, *((name, value) for name, value in pairs if name == "command" and verb == "exec")])


def _is_set(text: str) -> bool:
    """As Go reads a boolean from a query."""
    return text.lower() not in {"0", "f", "false"}
