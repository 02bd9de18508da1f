"""Requests that are not HTTP as we accept it: answered with a Status too, before any handler sees them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from gunicorn.http import errors

from labctl.kube.errors import ApiError

_PARSE_ERRORS = (errors.ParseException, errors.ConfigurationProblem)
_TOO_LONG = "the request line or a header is longer than is accepted"


def refuse(client: Any, error: BaseException) -> bool:
    """Answer a request that could not be parsed, and be done with the connection; False where that is not what it is.

    Requests of 8 KiB a line and 100 headers are accepted, so what a client makes us keep is bounded.
    """
    if not isinstance(error, _PARSE_ERRORS):
        return False
    code, reason, message = 400, "BadRequest", f"the request could not be parsed: {error}"
    if isinstance(error, errors.LimitRequestLine):
        code, reason, message = 414, "RequestURITooLong", _TOO_LONG
    elif isinstance(error, errors.LimitRequestHeaders):
        code, reason, message = 431, "RequestHeaderFieldsTooLarge", _TOO_LONG
    status = ApiError(message).to_status() | {"code": code, "reason": reason}
    body = msgspec.json.encode(status)
    head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with contextlib.suppress(OSError):
        client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
    return True
