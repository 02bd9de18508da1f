from __future__ import annotations

import re
from typing import Any

import pytest

from labctl.kube.selector_text import parse_fields, parse_labels
from labctl.kube.selectors import FieldTerm, Requirement, from_label_selector, matches, matches_fields

LABELS = {"app": "web", "tier": "front", "cores": "8"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("absent!=web", True),
        ("app in (web, api),tier notin (back)", True),
        ("app in (api)", False),
        ("absent in (a)", False),
        ("absent notin (a)", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("! app", False),
        ("cores>4", True),
        ("cores < 8", False),
        ("app > 1", False),
        ("app=", False),
    ],
)
def test_label_selectors(text: str, expected: bool) -> None:
    assert matches(parse_labels(text), LABELS) is expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        (",,", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("app in (web", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a>b", "values[0][a]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ("-bad=1", 'unable to parse requirement: key: Invalid value: "-bad": name part must consist of'),
        ("a=b==c", "found '==', expected: ',' or 'end of string'"),
        ("a=b,!", "unable to parse requirement: found '', expected: identifier"),
        ("a=-b", 'values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of'),
        ("a\x00", 'key: Invalid value: "a\x00"'),
    ],
)
def test_what_cannot_be_parsed_is_refused_in_upstreams_words(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_labels(text)


def test_in_and_notin_are_values_too_and_nothing_is_the_empty_value() -> None:
    assert parse_labels("a in (in,notin)") == (Requirement("a", "In", ("in", "notin")),)
    assert parse_labels("a in (,x)") == (Requirement("a", "In", ("", "x")),)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "api"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_label_selector_objects(selector: dict[str, Any], expected: bool) -> None:
    found = from_label_selector(selector)
    assert found is not None
    assert matches(found, LABELS) is expected


def test_no_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert from_label_selector(None) is None
    assert from_label_selector({}) == ()


def test_gt_and_lt_need_numbers() -> None:
    assert not Requirement("app", "Gt", ("1",)).matches(LABELS)
    assert not Requirement("cores", "Gt", ("x",)).matches(LABELS)
    assert not Requirement("cores", "Gt", ()).matches(LABELS)


def test_field_selectors() -> None:
    terms = parse_fields("metadata.name=a,status.phase!=Running")
    assert terms == (FieldTerm("metadata.name", "a"), FieldTerm("status.phase", "Running", True))
    assert matches_fields(terms, {"metadata": {"name": "a"}, "status": {"phase": "Pending"}})
    assert matches_fields(terms, {"metadata": {"name": "a"}})
    assert not matches_fields(terms, {"metadata": {"name": "a"}, "status": {"phase": "Running"}})
    assert matches_fields(parse_fields("spec.nodeName="), {"spec": {}})
    assert matches_fields(parse_fields("spec.unschedulable=true"), {"spec": {"unschedulable": True}})
    with pytest.raises(ValueError, match=r"can't understand 'metadata\.name'"):
        parse_fields("metadata.name")
