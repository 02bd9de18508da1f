"""What authorization looks at in a request. Source: apiserver `authorizer/interfaces.go`, `request/requestinfo.go`."""

from __future__ import annotations

import msgspec

from labctl.kube.selector_text import parse_fields
from master.apiserver.request import Request, User


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to do what. A request to a path has neither group nor resource."""

    user: User
    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""

    @property
    def combined(self) -> str:
        """`pods`, or `pods/log`: the resource as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def selects(self, field: str) -> str:
        """The value that the field selector ties `field` to; "" where it does not."""
        if not self.field_selector:
            return ""
        try:
            terms = parse_fields(self.field_selector)
        except ValueError:
            return ""  # whoever serves the request says what is wrong with it
        return next((term.value for term in terms if term.path == field and not term.negated), "")


def of(request: Request) -> Attributes:
    """A request's attributes. A list of one object by `metadata.name` counts as naming it."""
    target, verb = request.target, request.verb
    if target is None or not target.plural:
        return Attributes(user=request.user, verb=verb, path=request.path)
    selector = request.query.get("fieldSelector", "") if verb in {"list", "watch", "deletecollection"} else ""
    found = Attributes(
        user=request.user,
        verb=verb,
        path=request.path,
        group=target.group,
        resource=target.plural,
        subresource=target.subresource,
        namespace=target.namespace,
        name=target.name,
        field_selector=selector,
    )
    if selector and not target.name and (name := found.selects("metadata.name")):
        return msgspec.structs.replace(found, name=name)
    return found
