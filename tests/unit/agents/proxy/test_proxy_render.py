"""The nftables script, kept as a golden file, and what holds for any plan."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agents.proxy.plan import Plan
from agents.proxy.render import Names, ruleset, script, sweep
from tests.unit.agents.proxy.cluster import endpoint, pieces, planned, service

GOLDEN = Path(__file__).parents[3] / "golden" / "proxy.nft"


def everything() -> Plan:
    """A Service of every sort."""
    two = (endpoint("10.1.0.2"), endpoint("10.1.1.2", "b"))
    node_port = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
    local = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30081}], "externalTrafficPolicy": "Local"}
    return planned(
        service("plain"),
        pieces(*two, name="plain"),
        service("one", ip="10.96.0.11"),
        pieces(two[1], name="one"),
        service("noded", ip="10.96.0.12", **node_port),
        pieces(*two, name="noded"),
        service("outside", ip="10.96.0.13", **local),
        pieces(*two, name="outside"),
        service("nobody", ip="10.96.0.14"),
        service("elsewhere", ip="10.96.0.15", internalTrafficPolicy="Local"),
        pieces(two[1], name="elsewhere"),
        service("sticky", ip="10.96.0.16", sessionAffinity="ClientIP"),
        pieces(*two, name="sticky"),
    )


def rendered(plan: Plan, before: Names | None = None) -> str:
    rules = ruleset(plan, cluster_cidr="10.1.0.0/16", service_cidr="10.96.0.0/12")
    return script(rules, before or Names())


def test_the_script_is_the_golden_one() -> None:
    found = rendered(everything())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_every_chain_that_is_gone_to_exists() -> None:
    text = rendered(everything())
    made = set(re.findall(r"^add chain ip labctl-proxy (\S+)", text, re.MULTILINE))
    wanted = set(re.findall(r"(?:goto|jump) (\S+?)[,\s]", text))
    assert wanted
    assert wanted <= made


def test_clients_that_stick_are_remembered_across_transactions() -> None:
    text = rendered(
        everything(), ruleset(everything(), cluster_cidr="10.1.0.0/16", service_cidr="10.96.0.0/12").names()
    )
    assert "delete set" not in text
    assert "flush set ip labctl-proxy aff/" not in text


def test_what_is_no_longer_wanted_is_emptied_first_and_swept_later() -> None:
    before = Names(frozenset({"svc/default/old/tcp/80"}), frozenset({"aff/default/old/tcp/80/10.1.0.2/8080"}))
    text = rendered(planned(), before)
    assert "flush chain ip labctl-proxy svc/default/old/tcp/80\n" in text
    assert "delete set ip labctl-proxy aff/default/old/tcp/80/10.1.0.2/8080\n" in text
    assert "delete chain" not in text
    assert sweep(["svc/default/old/tcp/80"]) == "delete chain ip labctl-proxy svc/default/old/tcp/80\n"


def test_the_longest_names_stay_within_nfts_limit_and_apart() -> None:
    names = [f"{'x' * 62}{letter}" for letter in "ab"]
    services = [service(name, ip=f"10.96.1.{number}", sessionAffinity="ClientIP") for number, name in enumerate(names)]
    plan = planned(*services, *(pieces(endpoint("10.111.111.111"), name=name) for name in names))
    made = re.findall(r"^add (?:chain|set) ip labctl-proxy (\S+)", rendered(plan), re.MULTILINE)
    assert max(map(len, made)) <= 127
    assert len(set(made)) == len(made)
    assert sum(name.startswith("aff/") for name in made) == 2


def test_one_chain_a_service_port_however_many_endpoints() -> None:
    few, many = (
        planned(service(), pieces(*(endpoint(f"10.1.0.{n}") for n in range(2, 2 + count)))) for count in (2, 200)
    )
    assert rendered(few).count("\n") == rendered(many).count("\n")
