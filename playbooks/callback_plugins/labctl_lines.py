"""Ansible output for programs: one JSON object a line. `labctl` reads them to show progress and to quote failures."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: labctl_lines
type: stdout
short_description: One JSON object a line
description: Events start, ok, skipped, failed, unreachable and done.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Prints each event as it happens."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "labctl_lines"

    def _tell(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    def _result(self, event: str, result: Any, **fields: Any) -> None:
        task = result.task if hasattr(result, "task") else result._task
        host = result.host if hasattr(result, "host") else result._host
        role = task._role.get_name() if task._role else ""
        self._tell(event, host=host.get_name(), role=role, task=task.name, **fields)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        role = task._role.get_name() if task._role else ""
        self._tell("start", host=host.get_name(), role=role, task=task.name)

    def v2_runner_on_ok(self, result: Any) -> None:
        """It went well. A component that was only described is no news; when all are in place, each is told."""
        outcome = _outcome(result)
        if "described" in outcome:
            return
        host = (result.host if hasattr(result, "host") else result._host).get_name()
        for one in outcome.get("components") or ():
            changes = one["changes"]
            self._tell("ok", host=host, role=one["name"], task="in place", changed=bool(changes), changes=changes)
        if "components" not in outcome:
            self._result("ok", result, changed=bool(outcome.get("changed")), changes=[])

    def v2_runner_on_skipped(self, result: Any) -> None:
        """It was not for this host."""
        self._result("skipped", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed."""
        if not ignore_errors:
            outcome = _outcome(result)
            told = outcome.get("msg") or outcome.get("module_stderr") or outcome.get("stderr") or "no message"
            self._result("failed", result, message=str(told))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The host could not be reached."""
        self._result("unreachable", result, message=str(_outcome(result).get("msg") or "no message"))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """All done."""
        self._tell("done", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})


def _outcome(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.result if hasattr(result, "result") else result._result
    return found
