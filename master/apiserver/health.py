"""/healthz, /livez, /readyz with named checks, and /version."""

from __future__ import annotations

import platform

from labctl.runtime.errors import LabError
from master.apiserver import problems
from master.apiserver.context import Context
from master.apiserver.reply import Reply

VERSION = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": "v1.37.0-labctl",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": f"python{platform.python_version()}",
    "compiler": "cpython",
    "platform": "linux/amd64",
}

_CHECKS = {"livez": ("ping",), "healthz": ("ping", "etcd"), "readyz": ("ping", "etcd", "shutdown")}


def check(context: Context, endpoint: str, only: str, *, verbose: bool) -> Reply:
    """Run the endpoint's checks, or `only` one of them: 200 `ok`, or 500 with a line for each."""
    names = _CHECKS[endpoint]
    if only:
        if only not in names:
            raise problems.no_such_resource()
        names = (only,)
    failures = {name: why for name in names if (why := _run(context, name))}
    if not failures and not verbose:
        return Reply(b"ok", content_type="text/plain; charset=utf-8")
    lines = [f"[-]{name} failed: {failures[name]}" if name in failures else f"[+]{name} ok" for name in names]
    lines.append(f"{endpoint} check {'failed' if failures else 'passed'}")
    text = "\n".join(lines) + "\n"
    return Reply(text.encode(), 500 if failures else 200, content_type="text/plain; charset=utf-8")


def _run(context: Context, name: str) -> str:
    """Why the check fails; "" where it passes."""
    if name == "shutdown":
        return "process is shutting down" if context.stop.is_set() else ""
    if name == "etcd":
        try:
            context.storage.store.revision()
        except LabError as error:
            return f"error getting data from etcd: {error}"
    return ""
