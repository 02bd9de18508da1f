"""pods/log: what the kubelet of the pod's node answers, passed through as it comes.

Source: k/k `pkg/registry/core/pod/rest/log.go`, `pkg/apis/core/validation` (ValidatePodLogOptions).
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from labctl.kube.errors import ApiError, BadRequest, Invalid, NotFound, ServerError
from labctl.runtime.clock import parse_time
from labctl.runtime.sockets import keep_alive
from master.apiserver import kubelet, problems
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.problems import FieldError
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply
from master.apiserver.request import Request

Document = dict[str, Any]

_FOLLOW_S = 4 * 3600.0
_BLOCK = 64 * 1024
_OPTIONS = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
_STREAMS = ("All", "Stderr", "Stdout")


def pod_log(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """GET: the container's log, while it grows if `follow` is set."""
    del form, warnings
    if request.method not in {"GET", "HEAD"}:
        raise problems.method_not_allowed()
    assert request.target is not None
    target = request.target
    if errors := _wrong(request):
        texts = [str(error) for error in errors]
        causes = [{"reason": error.reason, "message": error.message, "field": error.field} for error in errors]
        details = {"name": target.name, "kind": "PodLogOptions", "causes": causes}
        told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        raise Invalid(f'PodLogOptions "{target.name}" is invalid: {told}', details=details)
    pod = context.storage.get(kind, target.namespace, target.name).document
    container = kubelet.container_of(pod, request.query.get("container", ""))
    if not (pod.get("spec") or {}).get("nodeName"):
        return Reply(b"", content_type="text/plain")
    host, port = kubelet.location(context, pod)
    query = urlencode({name: request.query[name] for name in _OPTIONS if name in request.query})
    words = "/".join(quote(word, safe="") for word in (target.namespace, target.name, container))
    path = f"/containerLogs/{words}{'?' if query else ''}{query}"
    connection = http.client.HTTPSConnection(host, port, timeout=kubelet.CONNECT_S, context=kubelet.tls(context.config))
    return Reply(_ask(connection, path, follow=request.flag("follow")), content_type="text/plain")


def _wrong(request: Request) -> list[FieldError]:
    """The broken rules of the options; BadRequest for a number that is none."""
    found = []
    for name, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        value = request.number(name)
        if value is not None and value < least:
            bound = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
            found.append(problems.invalid(name, value, bound))
    if since := request.query.get("sinceTime"):
        if request.query.get("sinceSeconds"):
            found.append(problems.forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
        try:
            parse_time(since)
        except ValueError as error:
            raise BadRequest(f'sinceTime: "{since}" is not an RFC 3339 time', details={}) from error
    stream = request.query.get("stream", "All")
    if stream not in _STREAMS:
        found.append(problems.unsupported("stream", stream, _STREAMS))
    elif stream != "All" and request.query.get("tailLines"):
        found.append(problems.forbidden_field("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    return found


def _ask(connection: http.client.HTTPSConnection, path: str, *, follow: bool) -> Iterator[bytes]:
    try:
        connection.connect()
        keep_alive(connection.sock)
        connection.sock.settimeout(kubelet.READ_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refused(answer.status, kubelet.said(answer.read(_BLOCK)))
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        url = f"https://{connection.host}:{connection.port}{path}"
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        said = f'Get "{url}": dial tcp {connection.host}:{connection.port}: connect: {why}'
        raise ServerError(f"Internal error occurred: {said}", details={"causes": [{"message": said}]}) from error
    except ApiError:
        connection.close()
        raise
    if follow:
        connection.sock.settimeout(_FOLLOW_S)
    return _chunks(connection, answer)


def _refused(status: int, said: str) -> ApiError:
    """As upstream's response checker takes a kubelet's answer."""
    if status == 400:
        return BadRequest(said, details={})
    if status == 404:
        return NotFound(said, details={})
    return ServerError(f"Internal error occurred: {said or status}", details={"causes": [{"message": said}]})


def _chunks(connection: http.client.HTTPSConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_BLOCK):
            yield chunk
    except (OSError, http.client.HTTPException):
        return  # the kubelet went away: the log ends here
    finally:
        answer.close()
        connection.close()
