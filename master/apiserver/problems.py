"""Errors in upstream's words. Source: apimachinery `api/errors/errors.go`, `util/validation/field/errors.go`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from labctl.kube.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
)
from labctl.kube.resources import Resource

OPTIMISTIC_LOCK = "the object has been modified; please apply your changes to the latest version and try again"


class FieldError(msgspec.Struct, frozen=True):
    """One broken rule: the reason as in StatusCause, the field's path and the text after it."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, detail: str = "") -> FieldError:
    """`Required value`."""
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """`Invalid value: "x": detail`."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {detail}")


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    """`Unsupported value: "x": supported values: "a", "b"`, in the order given."""
    listed = ", ".join(_shown(entry) for entry in allowed)
    return FieldError(
        "FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {listed}"
    )


def duplicate(field: str, value: Any) -> FieldError:
    """`Duplicate value: "x"`."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def forbidden_field(field: str, detail: str) -> FieldError:
    """`Forbidden: detail`."""
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def not_found_field(field: str, value: Any) -> FieldError:
    """`Not found: "x"`."""
    return FieldError("FieldValueNotFound", field, f"Not found: {_shown(value)}")


def too_long(field: str, limit: int) -> FieldError:
    """`Too long: may not be more than 63 bytes`."""
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """`Too many: 9: must have at most 8 items`."""
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


def _details(resource: Resource, name: str, **more: Any) -> dict[str, Any]:
    details = {"name": name, "group": resource.group, "kind": resource.plural, **more}
    return {key: value for key, value in details.items() if value not in ("", None)}


def not_found(resource: Resource, name: str) -> NotFound:
    """No object of that name."""
    return NotFound(f'{resource.qualified} "{name}" not found', details=_details(resource, name))


def no_such_resource() -> NotFound:
    """Nothing is served at that path."""
    return NotFound("the server could not find the requested resource", details={})


def method_not_allowed() -> MethodNotAllowed:
    """The path is served, but not for this verb."""
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def already_exists(resource: Resource, name: str) -> AlreadyExists:
    """The name is taken."""
    return AlreadyExists(f'{resource.qualified} "{name}" already exists', details=_details(resource, name))


def no_free_name(taken: AlreadyExists) -> AlreadyExists:
    """None of several generated names was free."""
    told = f"{taken}, the server was not able to generate a unique name for the object"
    return AlreadyExists(told, details={**taken.details, "retryAfterSeconds": 1})


def conflict(resource: Resource, name: str, why: str = OPTIMISTIC_LOCK) -> Conflict:
    """A precondition did not hold."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return Conflict(message, details=_details(resource, name))


def forbidden(resource: Resource, name: str, why: str) -> Forbidden:
    """Admission or a guard said no."""
    return Forbidden(f'{resource.qualified} "{name}" is forbidden: {why}', details=_details(resource, name))


def rejected(resource: Resource, name: str, errors: Sequence[FieldError]) -> ApiError:
    """The object breaks rules of its kind: 422 with a cause for each."""
    texts = list(dict.fromkeys(str(error) for error in errors))  # as upstream, no text twice
    told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": error.reason, "message": error.message, "field": error.field} for error in errors]
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, "group": resource.group, "kind": resource.kind, "causes": causes}
    return Invalid(
        f'{kind} "{name}" is invalid: {told}', details={key: value for key, value in details.items() if value != ""}
    )


def bad_option(options: str, error: FieldError) -> Invalid:
    """An option of the request that makes no sense, e.g. of `CreateOptions`: 422."""
    causes = [{"reason": error.reason, "message": error.message, "field": error.field}]
    details = {"group": "meta.k8s.io", "kind": options, "causes": causes}
    return Invalid(f'{options}.meta.k8s.io "" is invalid: {error}', details=details)


def undecodable(resource: Resource, why: str) -> BadRequest:
    """The body is not an object of this kind."""
    return BadRequest(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}', details={}
    )


def expired(detail: str) -> Expired:
    """The resourceVersion is older than what is kept."""
    return Expired(detail, details={})
