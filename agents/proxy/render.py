"""A plan as nftables: one table, one script, applied as one transaction. Pure.

How a packet goes: `services` finds (address, protocol, port) in a map and goes to that Service port's own chain, which
picks an endpoint from a map by a random number. So a packet passes the same few rules however many Services there are.

    svc/NS/NAME/PROTOCOL/PORT   any endpoint            loc/...   endpoints on this node only
    ext/...                     traffic from outside    end/...   one endpoint, for clients that stick to it (aff/...)

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables; nft(8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from agents.proxy.plan import Plan, Portal, Target

TABLE = "labctl-proxy"
MARK = "0x00004000"  # this packet is to be masqueraded; upstream's own bit
_NAME_MAX = 100

_FAMILY = f"ip {TABLE}"

_MAPS = {
    "service-ips": "type ipv4_addr . inet_proto . inet_service : verdict",
    "service-nodeports": "type inet_proto . inet_service : verdict",
    "no-endpoint-ips": "type ipv4_addr . inet_proto . inet_service : verdict",
    "no-endpoint-nodeports": "type inet_proto . inet_service : verdict",
}
_SETS = {
    "cluster-ips": "type ipv4_addr",
    "hairpin": "type ipv4_addr . ipv4_addr",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the table consists of, besides the fixed parts."""

    chains: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()


@dataclass(slots=True)
class Ruleset:
    """Rules and elements, by the chain, map or set they belong to."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    elements: dict[str, list[str]] = field(default_factory=dict)
    affinity: dict[str, int] = field(default_factory=dict)  # set name -> seconds

    def names(self) -> Names:
        """What of it comes and goes."""
        return Names(frozenset(self.chains), frozenset(self.affinity))


def ruleset(wanted: Plan, *, cluster_cidr: str, service_cidr: str) -> Ruleset:
    """All rules for a plan."""
    found = Ruleset(elements={name: [] for name in (*_MAPS, *_SETS)})
    hairpin: set[str] = set()
    for portal in wanted.portals:
        _add(found, portal, cluster_cidr)
        hairpin |= {target.address for target in portal.local}
    found.elements["cluster-ips"] = sorted({portal.cluster_ip for portal in wanted.portals})
    found.elements["hairpin"] = [f"{address} . {address}" for address in sorted(hairpin)]
    found.chains |= _fixed(cluster_cidr, service_cidr)
    return found


def script(rules: Ruleset, before: Names) -> str:
    """The transaction that turns a table of whatever content into `rules`.

    What clients stick to (the affinity sets) is kept. A chain that is no longer wanted is emptied now and deleted by
    the next transaction, when no map element that this one deletes can refer to it any more.
    """
    lines = [f"add table {_FAMILY}"]
    lines += [f"add map {_FAMILY} {name} {{ {kind} ; }}" for name, kind in _MAPS.items()]
    lines += [f"add set {_FAMILY} {name} {{ {kind} ; }}" for name, kind in _SETS.items()]
    for name, seconds in rules.affinity.items():
        lines.append(f"add set {_FAMILY} {name} {{ type ipv4_addr ; flags dynamic,timeout ; timeout {seconds}s ; }}")
    for name in rules.chains:
        lines.append(f"add chain {_FAMILY} {name}{_HOOKS.get(name, '')}")
    lines += [f"flush map {_FAMILY} {name}" for name in _MAPS]
    lines += [f"flush set {_FAMILY} {name}" for name in _SETS]
    lines += [f"flush chain {_FAMILY} {name}" for name in sorted(before.chains | rules.chains.keys())]
    lines += [f"delete set {_FAMILY} {name}" for name in sorted(before.sets - rules.affinity.keys())]
    for name, chain in rules.chains.items():
        lines += [f"add rule {_FAMILY} {name} {rule}" for rule in chain]
    for name, elements in rules.elements.items():
        if elements:
            lines.append(f"add element {_FAMILY} {name} {{ {', '.join(elements)} }}")
    return "\n".join(lines) + "\n"


def sweep(stale: Iterable[str]) -> str:
    """The transaction that deletes chains which were emptied before."""
    return "".join(f"delete chain {_FAMILY} {name}\n" for name in sorted(stale))


_HOOKS = {
    "nat-prerouting": " { type nat hook prerouting priority dstnat ; }",
    "nat-output": " { type nat hook output priority -100 ; }",
    "nat-postrouting": " { type nat hook postrouting priority srcnat ; }",
    "filter-input": " { type filter hook input priority -110 ; }",
    "filter-forward": " { type filter hook forward priority -110 ; }",
    "filter-output": " { type filter hook output priority -110 ; }",
    "filter-output-rewritten": " { type filter hook output priority -90 ; }",
}


def _fixed(cluster_cidr: str, service_cidr: str) -> dict[str, list[str]]:
    checks = ["ct state new jump no-endpoints", "ct state new jump unknown-cluster-ips"]
    return {
        "nat-prerouting": ["jump services"],
        "nat-output": ["jump services"],
        "nat-postrouting": ["jump masquerading"],
        "filter-input": checks[:1],
        "filter-forward": checks,
        "filter-output": checks[:1],
        "filter-output-rewritten": checks[1:],  # after nat-output
        "services": [
            "ip daddr . meta l4proto . th dport vmap @service-ips",
            "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports",
        ],
        "no-endpoints": [
            "ip daddr . meta l4proto . th dport vmap @no-endpoint-ips",
            "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports",
        ],
        # A reset, not ICMP, so that connections to an endpoint that vanished end at once, too.
        "refuse": ["meta l4proto tcp reject with tcp reset", "reject with icmp port-unreachable"],
        "unknown-cluster-ips": ["ip daddr @cluster-ips goto refuse", f"ip daddr {service_cidr} drop"],
        "mark-for-masquerade": [f"meta mark set meta mark or {MARK}"],
        "masquerading": [
            "ip saddr . ip daddr @hairpin masquerade",
            f"ip saddr {cluster_cidr} ip daddr != {cluster_cidr} fib daddr type != local masquerade",
            f"meta mark and {MARK} == 0 return",
            f"meta mark set meta mark xor {MARK}",
            "masquerade fully-random",
        ],
    }


def _add(found: Ruleset, portal: Portal, cluster_cidr: str) -> None:
    key = _short(portal.key)
    protocol, port = portal.protocol, portal.port
    everywhere, here = f"svc/{key}", f"loc/{key}"
    _balance(found, portal, everywhere, portal.everywhere)
    if portal.internal_local or portal.external_local:
        _balance(found, portal, here, portal.here)

    inner = here if portal.internal_local else everywhere
    if inner in found.chains:
        # A client from outside the cluster would be answered by an endpoint that it never spoke to.
        match = f"ip daddr {portal.cluster_ip} {protocol} dport {port} ip saddr != {cluster_cidr}"
        found.chains[inner].insert(0, f"{match} jump mark-for-masquerade")
    at = f"{portal.cluster_ip} . {protocol} . {port}"
    _offer(found, "ips", at, inner if inner in found.chains else "", refused=not portal.everywhere)

    outer = _outer(found, portal, key, cluster_cidr)
    for address in portal.external_ips:
        _offer(found, "ips", f"{address} . {protocol} . {port}", outer, refused=not portal.everywhere)
    if portal.node_port:
        at = f"{protocol} . {portal.node_port}"
        _offer(found, "nodeports", at, outer, refused=not portal.everywhere)


def _outer(found: Ruleset, portal: Portal, key: str, cluster_cidr: str) -> str:
    """The chain for traffic from outside; "" where there is no endpoint at all, or nothing to reach from outside."""
    if not portal.everywhere or not (portal.node_port or portal.external_ips):
        return ""
    name, everywhere, here = f"ext/{key}", f"svc/{key}", f"loc/{key}"
    if not portal.external_local:
        found.chains[name] = ["jump mark-for-masquerade", f"goto {everywhere}"]
        return name
    found.chains[name] = [  # pods and the node itself are inside, wherever they knock
        f"ip saddr {cluster_cidr} goto {everywhere}",
        "fib saddr type local jump mark-for-masquerade",
        f"fib saddr type local goto {everywhere}",
        f"goto {here}" if here in found.chains else "drop",
    ]
    return name


def _offer(found: Ruleset, kind: str, at: str, chain: str, *, refused: bool) -> None:
    """An entry in the map of destinations; without a chain, one in the map of those that are refused, or dropped."""
    if chain:
        found.elements[f"service-{kind}"].append(f"{at} : goto {chain}")
    else:
        found.elements[f"no-endpoint-{kind}"].append(f"{at} : {'goto refuse' if refused else 'drop'}")


def _balance(found: Ruleset, portal: Portal, chain: str, targets: tuple[Target, ...]) -> None:
    """A chain that sends each new connection to one of the targets; none where there is no target."""
    if not targets:
        return
    if not portal.affinity_s:
        found.chains[chain] = [f"meta l4proto {portal.protocol} {_pick(targets)}"]
        return
    ends = [f"{_short(portal.key)}/{target.address}/{target.port}" for target in targets]
    for end, target in zip(ends, targets, strict=True):
        found.affinity[f"aff/{end}"] = portal.affinity_s
        found.chains[f"end/{end}"] = [
            f"update @aff/{end} {{ ip saddr }}",
            f"meta l4proto {portal.protocol} dnat to {target.address}:{target.port}",
        ]
    choices = ", ".join(f"{number} : goto end/{end}" for number, end in enumerate(ends))
    found.chains[chain] = [
        *(f"ip saddr @aff/{end} goto end/{end}" for end in ends),
        f"numgen random mod {len(ends)} vmap {{ {choices} }}",
    ]


def _pick(targets: tuple[Target, ...]) -> str:
    if len(targets) == 1:
        return f"dnat to {targets[0].address}:{targets[0].port}"
    choices = ", ".join(f"{number} : {target.address} . {target.port}" for number, target in enumerate(targets))
    return f"dnat to numgen random mod {len(targets)} map {{ {choices} }}"


def _short(key: str) -> str:
    """A name that nft takes; nft's own limit is 128."""
    if len(key) <= _NAME_MAX - 32:
        return key
    return f"{key[: _NAME_MAX - 48]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
