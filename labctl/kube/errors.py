"""`ApiError` <-> Kubernetes `Status`. Reasons and codes as in apimachinery `meta/v1/types.go` (StatusReason)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.runtime.errors import LabError

Document = dict[str, Any]


class ApiError(LabError):
    """The API server answered with a Status; `code` is its HTTP status, `reason` its machine-readable reason."""

    code = 500
    reason = "InternalError"

    def __init__(
        self, message: str, *, details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})  # e.g. Retry-After, sent along with the answer
        self.metadata: Document = {}  # of the Status, e.g. `continue`

    def to_status(self) -> Document:
        """The `Status` object that goes over the wire."""
        status: Document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


class BadRequest(ApiError):
    """The request itself makes no sense."""

    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    """No valid identity."""

    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    """The identity may not do this."""

    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    """No such object, or no such resource."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    """The resource has no such verb."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    """None of the formats asked for is served."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    """An object of that name is there."""

    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    """Our resourceVersion is stale: drop the plan, observe again."""

    code, reason, retryable = 409, "Conflict", True


class Expired(ApiError):
    """The resourceVersion or continue token is too old: list again."""

    code, reason, retryable = 410, "Expired", True


class TooLarge(ApiError):
    """The body is over the limit."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    """The body's format is not accepted."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object breaks a rule of its kind; `details.causes` carry field paths."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    """Come back later; `details.retryAfterSeconds` says when."""

    code, reason, retryable = 429, "TooManyRequests", True


class ServerError(ApiError):
    """The server failed, or cannot serve now."""

    retryable = True


class Unavailable(ServerError):
    """The server, or what it needs, cannot be reached now; nothing is known of the request's effect."""

    code, reason = 503, "ServiceUnavailable"


class ServerTimeout(ServerError):
    """The request ran out of time; nothing is known of its effect."""

    code, reason = 504, "Timeout"


_KINDS: tuple[type[ApiError], ...] = (
    BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict, Expired,
    TooLarge, UnsupportedMediaType, Invalid, TooManyRequests, Unavailable, ServerTimeout,
)  # fmt: skip
_BY_REASON = {kind.reason: kind for kind in _KINDS}
_BY_CODE = {kind.code: kind for kind in reversed(_KINDS) if kind is not AlreadyExists}


def from_status(code: int, status: Mapping[str, Any]) -> ApiError:
    """The error an answer stands for: by its reason, else by its HTTP code."""
    kind = _BY_REASON.get(str(status.get("reason", ""))) or _BY_CODE.get(code)
    if kind is None:
        kind = ServerError if code >= 500 else BadRequest
    return kind(str(status.get("message") or f"HTTP {code}"), details=status.get("details"))
