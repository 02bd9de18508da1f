"""POST pods/NAME/eviction: a delete that a PodDisruptionBudget may refuse with 429.

Source: `pkg/registry/core/pod/storage/eviction.go`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.errors import ApiError, BadRequest, Conflict, TooManyRequests
from labctl.kube.resources import builtin
from labctl.kube.selectors import from_label_selector, matches
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.body import read_as
from master.apiserver.context import Context
from master.apiserver.delete import Options, check_preconditions, convert_options, delete_object
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply
from master.apiserver.request import Request

Document = dict[str, Any]

_BUDGETS = builtin("poddisruptionbudgets", "policy")
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_SEVERAL = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_MOST_PENDING = 2000  # evictions that the budget's controller has not confirmed


class SeveralBudgets(ApiError):
    """More than one budget counts the pod; upstream answers with 500 and no reason."""

    code, reason = 500, ""


def evict(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Answer an Eviction."""
    del warnings
    if request.method != "POST":
        raise problems.method_not_allowed()
    assert request.target is not None
    target = request.target
    body = read_as(request, context.registry, "policy/v1", "Eviction")
    named = (body.get("metadata") or {}).get("name")
    if named and named != target.name:
        raise BadRequest("name in URL does not match name in Eviction object", details={})
    given = {key: value for key, value in (body.get("deleteOptions") or {}).items() if value is not None}
    options = convert_options(given | ({"dryRun": ["All"]} if request.dry_run else {}))
    pod = context.storage.get(kind, target.namespace, target.name).document
    check_preconditions(kind, target.name, pod["metadata"], options.preconditions or {})
    guarded = "" if _is_beyond_budgets(pod) else _spend(context, pod, dry_run=options.is_dry)
    if guarded:  # it counted as broken: it must still be as we saw it
        wanted = {"resourceVersion": pod["metadata"]["resourceVersion"], **(options.preconditions or {})}
        pinned = msgspec.structs.replace(options, preconditions=wanted)
        try:
            delete_object(context, request, kind, (target.namespace, target.name), pinned)
        except Conflict:
            raise _busy(guarded) from None
        return document_reply(_SUCCESS, form, 201)
    if not options.is_dry:
        _tell(context, kind, (target.namespace, target.name), options)
        unpinned = {key: value for key, value in (options.preconditions or {}).items() if key != "resourceVersion"}
        options = msgspec.structs.replace(options, preconditions=unpinned)
    delete_object(context, request, kind, (target.namespace, target.name), options)
    return document_reply(_SUCCESS, form, 201)


def _is_beyond_budgets(pod: Document) -> bool:
    """Whether the pod serves nobody, so that no budget counts it."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in {"Succeeded", "Failed", "Pending"} or bool(pod["metadata"].get("deletionTimestamp"))


def _tell(context: Context, kind: Kind, where: tuple[str, str], options: Options) -> None:
    """Write on the pod why it will end."""
    namespace, name = where
    now = rfc3339(context.clock.now())

    def change(pod: Document) -> Document:
        check_preconditions(kind, name, pod["metadata"], options.preconditions or {})
        status = pod.setdefault("status", {})
        kept = [entry for entry in status.get("conditions") or () if entry.get("type") != "DisruptionTarget"]
        told = {"type": "DisruptionTarget", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        told |= {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
        status["conditions"] = [*kept, told]
        return pod

    context.storage.change(kind, namespace, name, change)


def _spend(context: Context, pod: Document, *, dry_run: bool) -> str:
    """Take one disruption from the pod's budget; TooManyRequests while there is none.

    The budget's name, where nothing was taken because the pod was broken anyway; else "".
    """
    kind = context.registry.of(_BUDGETS)
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}
    budgets = []
    for entry in context.storage.current(kind).list(kind.scope(namespace))[0]:
        selector = from_label_selector((entry.document.get("spec") or {}).get("selector"))
        if selector is not None and matches(selector, labels):
            budgets.append(entry.document)
    if len(budgets) > 1:
        raise SeveralBudgets(_SEVERAL, details={})
    if not budgets:
        return ""
    name = budgets[0]["metadata"]["name"]
    if not _is_ready(pod) and _may_lose_broken(budgets[0]):
        return str(name)
    now = rfc3339(context.clock.now())

    def change(budget: Document) -> Document:
        status = budget.get("status") or {}
        _judge(name, budget, status)
        disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: now}
        left = status["disruptionsAllowed"] - 1
        budget["status"] = {**status, "disruptionsAllowed": left, "disruptedPods": disrupted}
        return budget

    context.storage.change(kind, namespace, name, change, dry_run=dry_run)
    return ""


def _is_ready(pod: Document) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def _may_lose_broken(budget: Document) -> bool:
    """Whether a pod that is not ready may go without being counted."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    wanted = status.get("desiredHealthy", 0)
    return bool(wanted > 0 and status.get("currentHealthy", 0) >= wanted)


def _judge(name: str, budget: Document, status: Document) -> None:
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _busy(name)
    allowed = status.get("disruptionsAllowed", 0)
    closed = f"The disruption budget {name} does not allow evicting pods currently"
    if allowed < 0:
        why = "pdb disruptions allowed is negative"
        raise _forbidden(name, why, f"{closed}: {why}")
    if len(status.get("disruptedPods") or ()) > _MOST_PENDING:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, why, f"{closed}: too many pending evictions not confirmed by PDB controller")
    if allowed > 0:
        return
    needed, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    conditions = status.get("conditions") or ()
    held: Document = next((entry for entry in conditions if entry.get("type") == "DisruptionAllowed"), {})
    said = held.get("message", "") if held.get("status") == "False" else ""
    if said and held.get("reason") == "SyncFailed":
        told = f"{closed} because it failed sync: {said}"
    elif healthy <= needed:
        told = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
    else:
        told = f"{closed} ({held.get('reason', '')}): {said}" if said else closed
    raise TooManyRequests(_REFUSED, details={"causes": [{"reason": "DisruptionBudget", "message": told}]})


def _busy(name: str) -> TooManyRequests:
    told = f"The disruption budget {name} is still being processed by the server."
    causes = [{"reason": "DisruptionBudget", "message": told}]
    return TooManyRequests(_REFUSED, details={"causes": causes, "retryAfterSeconds": 10})


def _forbidden(name: str, why: str, told: str) -> ApiError:
    error = problems.forbidden(_BUDGETS, name, why)
    error.details["causes"] = [{"reason": "DisruptionBudget", "message": told}]
    return error
