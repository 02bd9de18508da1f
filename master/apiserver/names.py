"""The forms of names, label keys and values, ports and the like, with upstream's words for values that have another.

Each function gives the messages that are wrong with a value, most often none. Pure.
Source: apimachinery `util/validation/validation.go`, `api/validate/content/*.go`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

Check = Callable[[str], list[str]]

_LABEL_TEXT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_TEXT = rf"{_LABEL_TEXT}(\.{_LABEL_TEXT})*"
_LABEL_1035_TEXT = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY_TEXT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_TEXT = f"({_KEY_TEXT})?"
_WILDCARD_TEXT = rf"\*\.{_SUBDOMAIN_TEXT}"
_CONFIG_KEY_TEXT = "[-._a-zA-Z0-9]+"
_HEADER_TEXT = "[-A-Za-z0-9]+"
_PERCENT_TEXT = "[0-9]+%"
_PATH_TEXT = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"

_LABEL = re.compile(_LABEL_TEXT)
_SUBDOMAIN = re.compile(_SUBDOMAIN_TEXT)
_LABEL_1035 = re.compile(_LABEL_1035_TEXT)
_KEY = re.compile(_KEY_TEXT)
_VALUE = re.compile(_VALUE_TEXT)
_WILDCARD = re.compile(_WILDCARD_TEXT)
_CONFIG_KEY = re.compile(_CONFIG_KEY_TEXT)
_HEADER = re.compile(_HEADER_TEXT)
_PERCENT = re.compile(_PERCENT_TEXT)
_PATH = re.compile(_PATH_TEXT)
_PRINTABLE = re.compile(r"[ -<>-~]+")  # ASCII without "="
_PORT_NAME = re.compile("[-a-z0-9]+")
_ALNUM_ENDS = "and must start and end with an alphanumeric character"


def _rule(text: str, form: str, *examples: str) -> str:
    """A rule with its pattern, as upstream words it: each example but the first after two blanks."""
    told = "  or ".join(f"'{example}'," for example in examples).replace(",  or ", ",  or ")
    return f"{text} (e.g. {told} regex used for validation is '{form}')"


def _longest(limit: int, unit: str = "bytes") -> str:
    return f"must be no more than {limit} {unit}"


_SUBDOMAIN_RULE = _rule(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ALNUM_ENDS}",
    _SUBDOMAIN_TEXT,
    "example.com",
)
_LABEL_RULE = _rule(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ALNUM_ENDS}",
    _LABEL_TEXT,
    "my-name",
    "123-abc",
)
_LABEL_1035_RULE = _rule(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character",
    _LABEL_1035_TEXT,
    "my-name",
    "abc-123",
)
_KEY_RULE = _rule(
    f"must consist of alphanumeric characters, '-', '_' or '.', {_ALNUM_ENDS}",
    _KEY_TEXT,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_RULE = _rule(
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ALNUM_ENDS}",
    _VALUE_TEXT,
    "MyValue",
    "my_value",
    "12345",
)
_WILDCARD_RULE = _rule(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower"
    " case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD_TEXT,
    "*.example.com",
)
_CONFIG_KEY_RULE = _rule(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY_TEXT,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_RULE = _rule(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER_TEXT, "X-Header-Name"
)
_PERCENT_RULE = _rule(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT_TEXT, "1%", "93%"
)


def label(value: str) -> list[str]:
    """A DNS-1123 label: up to 63 lower-case letters, digits and hyphens."""
    found = [] if len(value) <= 63 else [_longest(63)]
    return found if _LABEL.fullmatch(value) else [*found, _LABEL_RULE]


def label_1035(value: str) -> list[str]:
    """A DNS-1035 label: a DNS-1123 label that starts with a letter."""
    found = [] if len(value) <= 63 else [_longest(63, "characters")]
    return found if _LABEL_1035.fullmatch(value) else [*found, _LABEL_1035_RULE]


def subdomain(value: str) -> list[str]:
    """A DNS-1123 subdomain: labels with dots between, up to 253 characters in all."""
    found = [] if len(value) <= 253 else [_longest(253)]
    return found if _SUBDOMAIN.fullmatch(value) else [*found, _SUBDOMAIN_RULE]


def wildcard(value: str) -> list[str]:
    """`*.` and a DNS-1123 subdomain."""
    found = [] if len(value) <= 253 else [_longest(253, "characters")]
    return found if _WILDCARD.fullmatch(value) else [*found, _WILDCARD_RULE]


def path_segment(value: str) -> list[str]:
    """A name that is safe in a URL's path: RBAC's objects and Events have such names."""
    if value in {".", ".."}:
        return [f"may not be '{value}'"]
    return [f"may not contain '{letter}'" for letter in "/%" if letter in value]


def key(value: str) -> list[str]:
    """A label's or annotation's key ("qualified name"): an optional DNS subdomain and a slash, and a name."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [
            f"a valid label key {_KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    found: list[str] = []
    if slash:
        found = [f"prefix part {text}" for text in subdomain(prefix)] if prefix else ["prefix part must be non-empty"]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append(f"name part {_longest(63)}")
    return found if _KEY.fullmatch(name) else [*found, f"name part {_KEY_RULE}"]


def value(text: str) -> list[str]:
    """A label's value."""
    found = [] if len(text) <= 63 else [_longest(63)]
    return found if _VALUE.fullmatch(text) else [*found, _VALUE_RULE]


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap's or Secret's data."""
    found = [] if len(text) <= 253 else [_longest(253, "characters")]
    if not _CONFIG_KEY.fullmatch(text):
        found.append(_CONFIG_KEY_RULE)
    return found + _no_parent(text)


def _no_parent(text: str) -> list[str]:
    if text in {".", ".."}:
        return [f"must not be '{text}'"]
    return ["must not start with '..'"] if text.startswith("..") else []


def env_name(text: str) -> list[str]:
    """An environment variable's name: printable ASCII without "="."""
    if not text:
        return ["environment variable name must be non-empty"]
    if _PRINTABLE.fullmatch(text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(text: str) -> list[str]:
    """A container port's name (an IANA service name)."""
    found = [] if len(text) <= 15 else [_longest(15, "characters")]
    if not _PORT_NAME.fullmatch(text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= letter <= "z" for letter in text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def port_number(number: int) -> list[str]:
    """A port's number."""
    return [] if 1 <= number <= 65535 else ["must be between 1 and 65535, inclusive"]


def header(text: str) -> list[str]:
    """An HTTP header's name."""
    return [] if _HEADER.fullmatch(text) else [_HEADER_RULE]


def percent(text: str) -> list[str]:
    """`25%`."""
    return [] if _PERCENT.fullmatch(text) else [_PERCENT_RULE]


def address(text: str) -> list[str]:
    """An IP address in its plain form."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def network(text: str) -> list[str]:
    """A CIDR block."""
    told = ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if "/" not in text:
        return told
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return told
    return []


def url_path(text: str) -> list[str]:
    """The path of a domain-prefixed name."""
    return [] if _PATH.fullmatch(text) else [f"Invalid path (regex used for validation is '{_PATH_TEXT}')"]
