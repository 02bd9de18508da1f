"""Ansible action `component`: what one process of a node needs, described by its role; put in place by the last task.

Roles only describe (and each description is checked at once); the play's last task, `component: {start: true}`, has all
of them put in place and started in one round trip. A module would first unpack and import Ansible's own library on the
node. This sends playbooks/on_node/component.py, which needs the standard library alone, to the node's Python over the
open SSH connection. Measured on an emulated machine, seconds of its processor: a round trip 0.65 (and there used to be
seven for a master); as a module through mitogen 1 to 2, and 4 to begin with; as a plain module 5 to 7.

    - name: Run kube-scheduler
      component:
        users: [labctl-scheduler]
        files: [{path: /etc/labctl/scheduler.json, content: "{}", group: labctl-scheduler, mode: "0640"}]
        units: [labctl-scheduler.service]

Check mode and diff work; `secret` keeps a file out of the diff, `restart` names units of others that read a file.
Units are enabled, then started all at once, without waiting.
"""

from __future__ import annotations

import base64
import ctypes
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PROGRAM = Path(__file__).resolve().parents[1] / "on_node" / "component.py"
# The program's length, the program, and what is asked, on one stream: nothing is left on the node.
LOADER = "import sys; exec(compile(sys.stdin.read(int(sys.stdin.readline())), 'component', 'exec'))"

_OWNED = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
_FILE = {
    **_OWNED,
    "mode": {"type": "str", "default": "0644"},
    "content": {"type": "str", "required": True},
    "secret": {"type": "bool", "default": False},
    "restart": {"type": "str", "default": ""},
}
_ARCHIVE = {name: {"type": "str", "required": True} for name in ("src", "dest", "version")}


def _list_of(options: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "list", "default": [], "elements": "dict" if options else "str", "options": options}


OPTIONS = {
    "packages": _list_of(),
    "users": _list_of(),
    "directories": _list_of({**_OWNED, "mode": {"type": "str", "default": "0755"}}),
    "archives": _list_of(_ARCHIVE),  # zip files of this host; `dest` is replaced as a whole when `version` differs
    "files": _list_of(_FILE),
    "units": _list_of(),
    "start": {"type": "bool", "default": False},
}


_PR_SET_PDEATHSIG = 1

DESCRIBED = "labctl_components"  # the fact of a host that collects what its roles describe


class ActionModule(ActionBase):  # type: ignore[misc]
    """Notes what a role describes; at the `start`, sends the program and everything noted.

    Archives are sent only where the node says it needs them, or is `fresh` (a variable of the host): just made.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point of the action."""
        _end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, asked = self.validate_argument_spec(argument_spec=OPTIONS)
        known = task_vars or {}
        described = list((known.get("ansible_facts") or {}).get(DESCRIBED) or ())
        if not asked.pop("start"):
            name = self._task._role.get_name() if self._task._role else self._task.name
            result["ansible_facts"] = {DESCRIBED: [*described, {"name": name, **asked}]}
            result["described"] = name
            return result
        python = known.get("ansible_python_interpreter", "/usr/bin/python3")
        result.update(self._put_in_place(python, described, fresh=bool(known.get("fresh"))))
        return result

    def _put_in_place(self, python: str, described: list[dict[str, Any]], *, fresh: bool) -> dict[str, Any]:
        """Ask, and where archives turn out to be wanted ask again with them; a `fresh` node gets them at once."""
        everything = [archive["dest"] for one in described for archive in one["archives"]]
        answer = self._ask(python, _packed(described, everything if fresh else []))
        earlier = answer["components"]
        if answer.get("wanted"):
            answer = self._ask(python, _packed(described, answer["wanted"]))
            for before, after in zip(earlier, answer["components"], strict=False):
                after["changes"] = [*before["changes"], *after["changes"]]
        answer["changed"] = any(one["changes"] for one in answer["components"])
        return answer

    def _ask(self, python: str, components: list[dict[str, Any]]) -> dict[str, Any]:
        program = PROGRAM.read_text(encoding="utf-8")
        asked = {"check": bool(self._task.check_mode), "components": components}
        stream = f"{len(program)}\n{program}{json.dumps(asked)}"
        command = f'{python} -ISE -c "{LOADER}"'
        done = self._low_level_execute_command(command, in_data=stream.encode(), sudoable=True)
        try:
            answer: dict[str, Any] = json.loads(done["stdout"].strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            told = (done["stderr"].strip() or done["stdout"].strip() or "no output").splitlines()[-1]
            raise AnsibleActionFail(f"{python} exited with {done['rc']}: {told}") from error
        return answer


def _end_with_ansible() -> None:
    """Have the kernel end this worker once Ansible itself is killed (prctl(2)).

    Workers hold both ends of the pipe for their results, so one that outlives Ansible would wait for ever to tell a
    long one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():  # it was killed right before
        os._exit(1)


def _packed(described: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    """With the content of those archives whose `dest` is wanted."""
    return [{**one, "archives": [_with_content(archive, wanted) for archive in one["archives"]]} for one in described]


def _with_content(archive: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    if archive["dest"] not in wanted:
        return archive
    return {**archive, "data": base64.b64encode(Path(archive["src"]).read_bytes()).decode()}
