"""The decision on each request: system:masters, then the node authorizer, then RBAC; and the words of a refusal.

Sources: apiserver `authorization/union`, `endpoints/handlers/responsewriters/errors.go`.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.kube.errors import Forbidden
from master.apiserver.audit import WHY_ALLOWED, WHY_FORBIDDEN
from master.apiserver.authz import attributes
from master.apiserver.authz.attributes import Attributes
from master.apiserver.authz.graph import Graph
from master.apiserver.authz.node import ALLOWED, NodeAuthorizer, node_of
from master.apiserver.authz.rbac import Holding, Rbac
from master.apiserver.registry import Registry
from master.apiserver.request import Request, User
from master.apiserver.storage import Storage

MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` says which binding allowed it, or why nothing did; often there is nothing to say."""

    allowed: bool
    reason: str = ""


class Authorizer:
    """One for the process; safe to share between threads."""

    def __init__(self, storage: Storage, registry: Registry) -> None:
        self.rbac = Rbac(storage, registry)
        self._nodes = NodeAuthorizer(Graph(storage, registry))

    def decide(self, wanted: Attributes) -> Decision:
        """Whether the user may."""
        if MASTERS in wanted.user.groups:
            return Decision(allowed=True)
        reasons = []
        node = node_of(wanted.user)
        if node is not None:
            verdict = self._nodes.judge(node, wanted)
            if verdict is ALLOWED:
                return Decision(allowed=True)
            reasons += [verdict] if verdict else []
        holding = self.rbac.holding(wanted.user, wanted.namespace)
        if grant := holding.find(wanted):
            return Decision(allowed=True, reason=f"RBAC: allowed by {grant.source}")
        if holding.errors:
            told = ", ".join(holding.errors)
            reasons.append(f"RBAC: {told if len(holding.errors) == 1 else f'[{told}]'}")
        return Decision(allowed=False, reason="\n".join(reasons))

    def authorize(self, request: Request) -> None:
        """Forbidden, in upstream's words, unless the request's user may."""
        if MASTERS in request.user.groups:
            request.environ[WHY_ALLOWED] = ""
            return
        wanted = attributes.of(request)
        decision = self.decide(wanted)
        request.environ[WHY_ALLOWED if decision.allowed else WHY_FORBIDDEN] = decision.reason
        if not decision.allowed:
            raise refusal(wanted, decision.reason)

    def holding(self, user: User, namespace: str) -> Holding:
        """All that RBAC grants a user in a namespace."""
        return self.rbac.holding(user, namespace)


def refusal(wanted: Attributes, reason: str = "") -> Forbidden:
    """What a client is told."""
    user, verb = wanted.user.name, wanted.verb
    why = f": {reason}" if reason else ""
    if not wanted.resource:
        return Forbidden(f'forbidden: User "{user}" cannot {verb} path "{wanted.path}"{why}', details={})
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    cannot = f'User "{user}" cannot {verb} resource "{wanted.combined}" in API group "{wanted.group}" {where}{why}'
    subject = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    named = f'"{wanted.name}" ' if wanted.name else ""
    details = {"name": wanted.name, "group": wanted.group, "kind": wanted.resource}
    return Forbidden(
        f"{subject} {named}is forbidden: {cannot}", details={key: value for key, value in details.items() if value}
    )
