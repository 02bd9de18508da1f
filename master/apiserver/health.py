"""/healthz, /livez, /readyz with named checks, and /version. Source: apiserver `server/healthz/healthz.go`."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence

from labctl.runtime.errors import LabError
from master.apiserver import problems
from master.apiserver.context import Context
from master.apiserver.reply import Reply
from master.apiserver.startup import HOOKS, LAST_HOOK

_log = logging.getLogger(__name__)

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

_ETCD_S = 5.0  # upstream asks for 2 s; an emulated machine's etcd may take that long in health
_TEXT = "text/plain; charset=utf-8"


def _etcd(context: Context) -> str:
    try:
        context.storage.store.revision(deadline_s=_ETCD_S)
    except LabError as error:
        return f"error getting data from etcd: {error}"
    return ""


def _caches(context: Context) -> str:
    waiting = context.storage.unready()
    return f"{len(waiting)} informers not started yet: {waiting}" if waiting else ""


def _hook(context: Context) -> str:
    return "" if context.startup.serves_components else "not finished"


def _last_hook(context: Context) -> str:
    return "" if context.startup.finished else "not finished"


def _shutdown(context: Context) -> str:
    return "process is shutting down" if context.stop.is_set() else ""


_Check = Callable[[Context], str]  # why it fails; "" where it passes

_LIVE: dict[str, _Check] = {
    "ping": lambda _: "",
    "log": lambda _: "",
    "etcd": _etcd,
    **{f"poststarthook/{name}": _last_hook if name == LAST_HOOK else _hook for name in HOOKS},
}
_READY: dict[str, _Check] = {
    "ping": _LIVE["ping"],
    "log": _LIVE["log"],
    "etcd": _etcd,
    "etcd-readiness": _etcd,
    "informer-sync": _caches,
    **{name: check for name, check in _LIVE.items() if "/" in name},
    "shutdown": _shutdown,
}
_CHECKS = {"livez": _LIVE, "healthz": _LIVE, "readyz": _READY}


def check(context: Context, endpoint: str, only: str, *, verbose: bool, exclude: Sequence[str] = ()) -> Reply:
    """Run the endpoint's checks, or `only` one of them: 200 `ok`, or 500 with a line for each; reasons go to the log.

    `exclude` names checks to leave out.
    """
    checks = _CHECKS[endpoint]
    if only:
        if only not in checks:
            raise problems.no_such_resource()
        why = checks[only](context)
        return _text(f"internal server error: {why}\n", 500) if why else _text("ok")
    failures: dict[str, str] = {}
    lines: list[str] = []
    answers: dict[_Check, str] = {}
    for name, run in checks.items():
        if name in exclude:
            lines.append(f"[+]{name} excluded: ok")
            continue
        if run not in answers:  # several names may ask the same question
            answers[run] = run(context)
        if why := answers[run]:
            failures[name] = why
            lines.append(f"[-]{name} failed: reason withheld")
        else:
            lines.append(f"[+]{name} ok")
    unknown = [name for name in exclude if name not in checks]
    if unknown:
        named = ", ".join(f'"{name}"' for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {named}")
    if endpoint == "readyz" and (failures or verbose):  # upstream's cannot tell: its client spreads over the members
        lines += [f"warn: etcd member {url}: {why}" for url, why in context.storage.store.faults().items()]
    if failures:
        _log.info("%s check failed", endpoint, extra={"kv": {"checks": ",".join(failures), "why": failures}})
        return _text("\n".join([*lines, f"{endpoint} check failed"]) + "\n", 500)
    return _text("\n".join([*lines, f"{endpoint} check passed"]) + "\n") if verbose else _text("ok")


def _text(text: str, code: int = 200) -> Reply:
    return Reply(text.encode(), code, content_type=_TEXT, headers={"X-Content-Type-Options": "nosniff"})
