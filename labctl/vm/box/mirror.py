"""Where Debian's packages are fetched from: the mirrors in the host's own apt sources, else mmdebstrap's default."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def sources(suite: str, root: Path = Path("/")) -> list[str]:
    """One-line apt sources of `suite` for mmdebstrap; empty where the host has no Debian mirror of its own.

    A host of another release has other suites at the same mirrors: bookworm's mirror is taken for trixie, its
    security mirror for trixie-security.
    """
    codename = _codename(root)
    if not codename:
        return []
    found = []
    for uri, suites, _ in entries(root):
        for ours, theirs in (
            (suite, codename),
            (f"{suite}-updates", f"{codename}-updates"),
            (f"{suite}-security", f"{codename}-security"),
        ):
            if theirs in suites:
                found.append(f"deb {uri} {ours} main")
    unique = list(dict.fromkeys(found))
    return unique if any(f" {suite} " in line for line in unique) else []


def _codename(root: Path) -> str:
    """The release's name where this is Debian, else ""."""
    path = root / "etc/os-release"
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    return fields.get("VERSION_CODENAME", "") if fields.get("ID") == "debian" else ""


def entries(root: Path) -> Iterable[tuple[str, list[str], str]]:
    """(URI, suites, keyring or "") of each enabled binary source with component main, deb822 and classic alike."""
    folder = root / "etc/apt/sources.list.d"
    for path in sorted(folder.glob("*.sources")):
        for stanza in path.read_text().split("\n\n"):
            fields = _fields(stanza)
            wanted = "deb" in fields.get("types", "").split() and "main" in fields.get("components", "").split()
            if wanted and fields.get("enabled", "yes").lower() != "no":
                for uri in fields.get("uris", "").split():
                    yield uri, fields.get("suites", "").split(), fields.get("signed-by", "")
    for path in [root / "etc/apt/sources.list", *sorted(folder.glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else ():
            words = _without_options(line).split()
            if words[:1] == ["deb"] and "main" in words[3:]:
                yield words[1], [words[2]], ""


def _without_options(line: str) -> str:
    before, bracket, rest = line.partition("[")
    return before + rest.partition("]")[2] if bracket else line


def _fields(stanza: str) -> dict[str, str]:
    """A deb822 stanza, comments out, keys in lower case; values that go on over several lines are joined."""
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith((" ", "\t")):
            fields[last] = f"{fields.get(last, '')} {line.strip()}"
        elif ":" in line:
            last, _, value = line.partition(":")
            last = last.strip().lower()
            fields[last] = value.strip()
    return fields
