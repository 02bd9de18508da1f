"""RBAC rules: what one covers, and whether some rules cover others. Pure.

Sources: k/k `pkg/apis/rbac/v1/evaluation_helpers.go`, `pkg/registry/rbac/validation/{rule,policy_compact}.go`,
`staging/src/k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import msgspec

ALL = "*"
_NAMES = {
    "api_groups": "apiGroups",
    "resource_names": "resourceNames",
    "non_resource_urls": "nonResourceURLs",
}


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES, omit_defaults=True):
    """A PolicyRule."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()  # `pods`, `pods/log`, `*/scale` or `*`
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()

    def has_verb(self, verb: str) -> bool:
        """Whether the verb is among its own."""
        return verb in self.verbs or ALL in self.verbs

    def has_resource(self, group: str, resource: str) -> bool:
        """Whether it speaks of a resource, `pods/log` for a subresource."""
        if group not in self.api_groups and ALL not in self.api_groups:
            return False
        if resource in self.resources or ALL in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def has_name(self, name: str) -> bool:
        """Whether it speaks of the object of that name."""
        return not self.resource_names or name in self.resource_names

    def has_path(self, path: str) -> bool:
        """Whether it speaks of a path that is no resource; `/healthz/*` is what lies below."""
        return any(
            entry in {path, ALL} or (entry.endswith(ALL) and path.startswith(entry.rstrip(ALL)))
            for entry in self.non_resource_urls
        )

    def __str__(self) -> str:
        parts = (
            ("APIGroups", self.api_groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.non_resource_urls),
            ("ResourceNames", self.resource_names),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in parts if values) + "}"


def quoted(values: Iterable[str]) -> str:
    """As Go prints a list of strings with %q: `["a" "b"]`."""
    return "[" + " ".join(msgspec.json.encode(value).decode() for value in values) + "]"


def covers(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of `wanted` that no rule of `owned` covers, one verb of one resource each; [] where all are held."""
    return [part for rule in wanted for part in _parts(rule) if not any(_holds(own, part) for own in owned)]


def _parts(rule: Rule) -> Iterator[Rule]:
    for group, resource, verb in product(rule.api_groups, rule.resources, rule.verbs):
        for name in rule.resource_names or ("",):
            names = (name,) if name else ()
            yield Rule(api_groups=(group,), resources=(resource,), verbs=(verb,), resource_names=names)
    for path, verb in product(rule.non_resource_urls, rule.verbs):
        yield Rule(non_resource_urls=(path,), verbs=(verb,))


def _holds(own: Rule, part: Rule) -> bool:
    """Whether one rule covers one part; a part with `*` is covered by `*` alone."""
    if not own.has_verb(part.verbs[0]):
        return False
    if part.non_resource_urls:
        return own.has_path(part.non_resource_urls[0])
    if not own.has_resource(part.api_groups[0], part.resources[0]):
        return False
    return not own.resource_names or (bool(part.resource_names) and part.resource_names[0] in own.resource_names)


def compact(parts: Iterable[Rule]) -> list[Rule]:
    """Parts of the same resource told in one rule with all their verbs."""
    verbs: dict[Rule, list[str]] = {}
    for part in parts:
        kept = verbs.setdefault(msgspec.structs.replace(part, verbs=()), [])
        kept += [verb for verb in part.verbs if verb not in kept]
    return [msgspec.structs.replace(rule, verbs=tuple(found)) for rule, found in verbs.items()]
