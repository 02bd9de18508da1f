#!/usr/bin/python3
"""Ansible module: put one component of a node in place, in one round trip. Runs on the node, with its Python."""

from __future__ import annotations

DOCUMENTATION = r"""
module: component
short_description: Files, users and units of one process of a node, in one task
description:
  - Installs what is missing, writes what differs, then reloads systemd and restarts the units if anything changed.
  - Units are started without waiting; whoever needs them healthy asks them.
options:
  packages: {description: Debian packages that must be installed., type: list, elements: str, default: []}
  users: {description: System users that must exist, type: list, elements: str, default: []}
  directories:
    description: Folders that must exist.
    type: list
    elements: dict
    default: []
  archives:
    description: Zip files on the node to unpack; C(dest) is replaced as a whole when C(version) differs.
    type: list
    elements: dict
    default: []
  files:
    description:
      - Files that must have this content.
      - C(secret) keeps it out of the diff, C(restart) names units that read it.
    type: list
    elements: dict
    default: []
  units: {description: Units to enable and start; restarted on change., type: list, elements: str, default: []}
"""

EXAMPLES = r"""
- name: Run kube-scheduler
  component:
    users: [labctl-scheduler]
    files: [{path: /etc/labctl/scheduler.json, content: "{}", group: labctl-scheduler, mode: "0640"}]
    units: [labctl-scheduler.service]
"""

RETURN = r"""
changes: {description: What was done, in words., type: list, elements: str, returned: always}
"""

import grp  # noqa: E402
import os  # noqa: E402
import pwd  # noqa: E402
import shutil  # noqa: E402
import stat  # noqa: E402
import zipfile  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

WANTS = "/etc/systemd/system/multi-user.target.wants"

OPTIONS = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "users": {"type": "list", "elements": "str", "default": []},
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0755"},
        },
    },
    "archives": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "src": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0644"},
            "secret": {"type": "bool", "default": False},
            "restart": {"type": "str", "default": ""},
        },
    },
    "units": {"type": "list", "elements": "str", "default": []},
}


class Component:
    """Compares what is asked for with the node, acts on the differences and remembers them."""

    def __init__(self, module):
        self.module = module
        self.changes = []
        self.diff = []
        self.units_differ = False
        self.readers = []  # units that read a file that changed, besides our own

    def apply(self, asked):
        """Everything, in an order that is safe to interrupt: units start only when their files are whole."""
        self._packages(asked["packages"])
        self._users(asked["users"])
        for directory in asked["directories"]:
            self._directory(directory)
        for archive in asked["archives"]:
            self._archive(archive)
        for file in asked["files"]:
            self._file(file)
        if self.readers:
            self._run(["systemctl", "restart", *sorted(set(self.readers))])
        self._units(asked["units"])

    def _packages(self, names):
        missing = [name for name in names if not self._installed(name)]
        if missing:
            self._change("install " + " ".join(missing))
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            self._run(["apt-get", "-q", "update"], environment)
            self._run(["apt-get", "-qy", "--no-install-recommends", "install", *missing], environment)

    @staticmethod
    def _installed(name):
        info = "/var/lib/dpkg/info/" + name
        return os.path.exists(info + ".list") or os.path.exists(info + ":amd64.list")

    def _users(self, names):
        missing = [name for name in names if not _known(pwd.getpwnam, name)]
        if missing:
            self._change("add user " + " ".join(missing))
            lines = [f'u {name} - "labctl" / -' for name in missing]
            self._run(["systemd-sysusers", "--inline", *lines])

    def _directory(self, asked):
        path = asked["path"]
        if not os.path.isdir(path):
            self._change("make " + path)
            if not self.module.check_mode:
                os.makedirs(path)
        self._own(path, asked)

    def _archive(self, asked):
        dest, marker = asked["dest"], os.path.join(asked["dest"], ".version")
        if _read(marker) == asked["version"]:
            return
        self._change("unpack {} {}".format(dest, asked["version"]))
        if self.module.check_mode:
            return
        fresh, old = dest + ".new", dest + ".old"
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        with zipfile.ZipFile(asked["src"]) as archive:
            archive.extractall(fresh)
        _write(os.path.join(fresh, ".version"), asked["version"])
        if os.path.exists(dest):
            os.rename(dest, old)
        os.rename(fresh, dest)
        shutil.rmtree(old, ignore_errors=True)

    def _file(self, asked):
        path, content = asked["path"], asked["content"]
        before = _read(path)
        if before != content:
            self._change("write " + path)
            if asked["secret"]:
                before, after = "(secret)\n", "(another secret)\n"
            else:
                before, after = before or "", content
            self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})
            self.units_differ |= path.startswith("/etc/systemd/system/")
            self.readers += asked["restart"].split()
            if not self.module.check_mode:
                _write(path, content, int(asked["mode"], 8), _uid(asked["owner"]), _gid(asked["group"]))
        self._own(path, asked)

    def _own(self, path, asked):
        if self.module.check_mode and not (os.path.exists(path) and _known(pwd.getpwnam, asked["owner"])):
            return
        has, mode = os.stat(path), int(asked["mode"], 8)
        if (has.st_uid, has.st_gid) != (_uid(asked["owner"]), _gid(asked["group"])):
            self._change("own " + path)
            if not self.module.check_mode:
                os.chown(path, _uid(asked["owner"]), _gid(asked["group"]))
        if stat.S_IMODE(has.st_mode) != mode:
            self._change("mode of " + path)
            if not self.module.check_mode:
                os.chmod(path, mode)

    def _units(self, names):
        restart = bool(self.changes)
        if self.units_differ:
            self._run(["systemctl", "daemon-reload"])
        for name in names:
            self._enable(name)
        if not names:
            return
        if restart:
            self._run(["systemctl", "restart", "--no-block", *names])
            return
        down = [name for name in names if not self._active(name)]
        if down:
            self._change("start " + " ".join(down))
            self._run(["systemctl", "start", "--no-block", *down])

    def _enable(self, name):
        """What `systemctl enable` does for WantedBy=multi-user.target, without its second of reloading."""
        link = os.path.join(WANTS, name)
        if os.path.islink(link):
            return
        self._change("enable " + name)
        if not self.module.check_mode:
            os.makedirs(WANTS, exist_ok=True)
            folders = ("/etc/systemd/system", "/usr/lib/systemd/system")
            paths = [os.path.join(folder, name) for folder in folders]
            os.symlink(next((path for path in paths if os.path.exists(path)), paths[0]), link)

    def _active(self, name):
        _, out, _ = self.module.run_command(["systemctl", "is-active", name])
        return out.strip() in ("active", "activating", "reloading")

    def _change(self, what):
        self.changes.append(what)

    def _run(self, command, environment=None):
        if self.module.check_mode:
            return
        code, out, err = self.module.run_command(command, environ_update=environment)
        if code != 0:
            words = (err.strip() or out.strip()).splitlines()
            told = words[-1] if words else "no output"
            self.module.fail_json(msg="{} exited with {}: {}".format(" ".join(command), code, told))


def _known(lookup, name):
    try:
        return lookup(name)
    except KeyError:
        return None


def _uid(name):
    return pwd.getpwnam(name).pw_uid


def _gid(name):
    return grp.getgrnam(name).gr_gid


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _write(path, content, mode=0o644, uid=0, gid=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".labctl-new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
    os.replace(temporary, path)


def main():
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    component = Component(module)
    try:
        component.apply(module.params)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        module.fail_json(msg=str(error), changes=component.changes)
    module.exit_json(changed=bool(component.changes), changes=component.changes, diff=component.diff)


if __name__ == "__main__":
    main()
