"""Selectors as clients write them, and upstream's words for what cannot be read.

Sources: apimachinery `labels/selector.go` (lexer, parser), `fields/selector.go`.
"""

from __future__ import annotations

import re

from labctl.kube.selectors import FieldTerm, Requirement, Selector

_TOKEN = re.compile(r"\s*(?:(==|!=|[=!(),<>])|([^=!(),<>\s]+)|$)")
_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", "in": "In", "notin": "NotIn", ">": "Gt", "<": "Lt"}
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    " (e.g. '{}', regex used for validation is '{}')"
)
_KEY_RULE = "name part " + _NAME_RULE.format(
    "MyName',  or 'my.name',  or '123-abc", "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
)
_VALUE_RULE = "a valid label must be an empty string or " + _NAME_RULE.removeprefix("must ").format(
    "MyValue',  or 'my_value',  or '12345", "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
)
_FIELD_OPERATORS = re.compile(r"!=|==|=")


class _Labels:
    """A label selector's text, token by token."""

    def __init__(self, text: str) -> None:
        self._tokens = [(symbol, word) for symbol, word in _TOKEN.findall(text) if symbol or word]
        self._at = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _next(self) -> tuple[str, str]:
        found = self._peek()
        self._at += 1
        return found

    def parse(self) -> Selector:
        """Every requirement; ValueError in upstream's words."""
        found: list[Requirement] = []
        while True:
            symbol, word = self._peek()
            if not symbol and not word:
                return tuple(found)
            if symbol not in {"", "!"}:
                raise ValueError(f"found '{symbol}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from error
            symbol, word = self._next()
            if not symbol and not word:
                return tuple(found)
            if symbol != ",":
                raise ValueError(f"found '{symbol or word}', expected: ',' or 'end of string'")
            symbol, word = self._peek()
            if symbol != "!" and not word:
                raise ValueError(f"found '{symbol}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        symbol, key = self._next()
        absent = symbol == "!"
        if absent:
            symbol, key = self._next()
        if not key:
            raise ValueError(f"found '{symbol}', expected: identifier")
        _check_key(key)
        if absent or self._peek() in {("", ""), (",", "")}:
            return Requirement(key, "DoesNotExist" if absent else "Exists")
        symbol, word = self._next()
        operator = _OPERATORS.get(symbol or word)
        if operator is None:
            raise ValueError(f"found '{symbol or word}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._several() if word else (self._one(),)
        _check_values(key, operator, values)
        return Requirement(key, operator, values)

    def _one(self) -> str:
        symbol, word = self._peek()
        if symbol == "," or not (symbol or word):
            return ""
        self._at += 1
        if symbol:
            raise ValueError(f"found '{symbol}', expected: identifier")
        return word

    def _several(self) -> tuple[str, ...]:
        symbol, word = self._next()
        if symbol != "(":
            raise ValueError(f"found '{symbol or word}' expected: '('")
        found: list[str] = []
        expects_value = True
        while True:
            symbol, word = self._next()
            if word and expects_value:
                found.append(word)
            elif symbol in {",", ")"}:
                if expects_value:
                    found.append("")  # `in (,x)` and `in ()` name the empty value
                if symbol == ")":
                    return tuple(found)
            else:
                raise ValueError(f"found '{symbol or word}', expected: ',', ')' or identifier")
            expects_value = symbol == ","


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ValueError(f'key: Invalid value: "{key}": {_KEY_RULE}')
    if slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix)):
        raise ValueError(f'key: Invalid value: "{key}": prefix part must be a lowercase RFC 1123 subdomain')


def _check_values(key: str, operator: str, values: tuple[str, ...]) -> None:
    for at, value in enumerate(values):
        told = f'values[{at}][{key}]: Invalid value: "{value}": '
        if operator in {"Gt", "Lt"} and not re.fullmatch(r"[+-]?[0-9]{1,19}", value):
            raise ValueError(f"{told}for 'Gt', 'Lt' operators, the value must be an integer")
        if len(value) > 63:
            raise ValueError(f"{told}must be no more than 63 characters")
        if value and operator in {"In", "NotIn"} and not _NAME.fullmatch(value):
            raise ValueError(told + _VALUE_RULE)


def parse_labels(text: str) -> Selector:
    """Parse `a=b,c!=d,e in (f,g),h,!i`; ValueError says what is wrong, as upstream."""
    return _Labels(text).parse() if text else ()


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    r"""Parse `metadata.name=a,status.phase!=Running`; in values `\,`, `\=` and `\\` are meant literally. ValueError."""
    terms = []
    for term in re.findall(r"(?:\\.|[^,\\]|\\$)+", text):
        operator = _FIELD_OPERATORS.search(term)
        if operator is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        value = _unescaped(term[operator.end() :])
        terms.append(FieldTerm(term[: operator.start()], value, operator[0] == "!="))
    return tuple(terms)


def _unescaped(value: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*\\(?![\\,=])", value):
        raise ValueError(f"invalid field selector: invalid escape sequence in {value}")
    if re.search(r"(?:^|[^\\])(?:\\\\)*=", value):
        raise ValueError(f"invalid field selector: unescaped character in value: {value}")
    return re.sub(r"\\(.)", r"\1", value)
