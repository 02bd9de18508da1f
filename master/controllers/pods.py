"""Questions about pods that several controllers ask. Pure. Source: k/k `pkg/controller/controller_utils.go`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from labctl.kube.errors import Document
from labctl.kube.selectors import LabelSelector, Requirement, Selector, matches
from labctl.runtime.clock import parse_time
from master.controllers.views import Condition, Pod

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, no look-alikes, as upstream's safe encoding


def condition(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type."""
    return next((entry for entry in conditions if entry.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether that condition is True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"


def is_ready(pod: Pod) -> bool:
    """Whether the pod serves."""
    return is_true(pod.status.conditions, "Ready")


def is_finished(pod: Pod) -> bool:
    """Whether it ran its course."""
    return pod.status.phase in {"Succeeded", "Failed"}


def is_active(pod: Pod) -> bool:
    """Whether it counts as a replica: not finished, not on its way out."""
    return not is_finished(pod) and not pod.metadata.deleting


def ready_for_s(pod: Pod, now: datetime) -> float:
    """For how long it has been ready, by the stamps of objects; negative where it is not ready."""
    found = condition(pod.status.conditions, "Ready")
    if found is None or found.status != "True":
        return -1.0
    if not found.last_transition_time:
        return 0.0
    return max(0.0, (now - parse_time(found.last_transition_time)).total_seconds())


def is_available(pod: Pod, min_ready_s: int, now: datetime) -> bool:
    """Whether it has been ready for `min_ready_s`."""
    return is_ready(pod) and (min_ready_s == 0 or ready_for_s(pod, now) >= min_ready_s)


def restarts(pod: Pod) -> int:
    """The most that any of its containers was started again."""
    return max((status.restart_count for status in pod.status.container_statuses), default=0)


def by_controller(pods: Iterable[Pod]) -> Mapping[str, list[Pod]]:
    """Pods by the uid of the controller that owns them; "" for those without."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        owner = pod.metadata.controller
        found[owner.uid if owner else ""].append(pod)
    return found


class Labelled:
    """Pods by namespace and by each of their labels, so that a selector need not look at all of them."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._all: dict[str, list[Pod]] = defaultdict(list)
        self._by: dict[tuple[str, str, str], list[Pod]] = defaultdict(list)
        for pod in pods:
            self._all[pod.metadata.namespace].append(pod)
            for key, value in pod.metadata.labels.items():
                self._by[pod.metadata.namespace, key, value].append(pod)

    def chosen(self, namespace: str, selector: Selector) -> list[Pod]:
        """The pods of a namespace that a selector matches, in the order they were given."""
        found = self._all.get(namespace, [])
        for term in selector:
            if term.operator == "In" and len(term.values) == 1:
                fewer = self._by.get((namespace, term.key, term.values[0]), [])
                found = fewer if len(fewer) < len(found) else found
        return [pod for pod in found if matches(selector, pod.metadata.labels)]


def selector_of(selector: LabelSelector) -> Selector:
    """What `selectors.matches` takes. An empty one selects nothing here: a controller never owns every pod."""
    return selector.terms or (Requirement("", "Exists"),)


def short_hash(*parts: str, length: int = 5) -> str:
    """A stable name suffix from `parts`."""
    number = int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=12).digest(), "big")
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def canonical(value: Any) -> bytes:
    """The same bytes for the same document, whatever the order of its keys."""
    return msgspec.json.encode(value, order="sorted")


def stamped(kind: str, status: str, reason: str, message: str, stamp: str) -> Document:
    """A pod condition that changes now."""
    found = {"type": kind, "status": status, "lastTransitionTime": stamp}
    return found | {key: value for key, value in (("reason", reason), ("message", message)) if value}


def unique_names(prefix: str, count: int, *state: str, taken: Sequence[str] = ()) -> list[str]:
    """`count` names under `prefix` that follow from `state`: planned twice from the same state, they are the same.

    So a create whose answer was lost cannot make a second object: its retry meets AlreadyExists.
    """
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = f"{prefix[:57]}{short_hash(*state, str(number))}"
        number += 1
        if name not in taken and name not in names:
            names.append(name)
    return names
