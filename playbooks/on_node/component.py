"""Puts the components of a node in place: packages, users, folders, files, units. Runs on the node.

playbooks/action_plugins/component.py sends this program and a JSON document to the node's Python, both on standard
input, and reads the answer, a JSON document too. Only the standard library, and little of it: an emulated machine
imports slowly.

Units are not started one by one but noted in PENDING, and started all at once when every component is in place, so that
systemd reads its files at most once and no service competes for the machine while the next one is still being written.
"""

import grp
import json
import os
import pwd
import stat
import sys

UNITS = "/etc/systemd/system"
WANTS = UNITS + "/multi-user.target.wants"
PENDING = "/run/labctl-pending.json"  # unit: whether it must restart; survives a run that was cut short


class Failure(Exception):
    """What went wrong, for the person who runs the play."""


class Component:
    """Compares what one is asked to be with the node, acts on the differences and remembers them."""

    def __init__(self, check, run):
        self.check, self.run = check, run
        self.changes, self.diff = [], []
        self.wanted = []  # archives whose content the node needs: the caller sends it and asks again
        self.readers = []  # units that read a file that changed, besides the component's own

    def apply(self, asked):
        """Everything, in an order that is safe to interrupt: units are noted only when their files are whole."""
        self._packages(asked["packages"])
        self._users(asked["users"])
        for directory in asked["directories"]:
            self._directory(directory)
        for archive in asked["archives"]:
            self._archive(archive)
        if self.wanted:
            return
        for file in asked["files"]:
            self._file(file)
        self._note(asked["units"])
        if self.readers:
            self._command(["systemctl", "restart", *sorted(set(self.readers))])

    def _packages(self, names):
        missing = [name for name in names if not self._installed(name)]
        if missing:
            self.changes.append("install " + " ".join(missing))
            self._command(["apt-get", "-q", "update"])
            self._command(["apt-get", "-qy", "--no-install-recommends", "install", *missing])

    @staticmethod
    def _installed(name):
        return any(os.path.exists(f"/var/lib/dpkg/info/{name}{suffix}.list") for suffix in ("", ":amd64", ":arm64"))

    def _users(self, names):
        missing = [name for name in names if not _known(name)]
        if missing:
            self.changes.append("add user " + " ".join(missing))
            self._command(["systemd-sysusers", "--inline", *[f'u {name} - "labctl" / -' for name in missing]])

    def _directory(self, asked):
        path = asked["path"]
        if not os.path.isdir(path):
            self.changes.append("make " + path)
            if not self.check:
                os.makedirs(path)
        self._own(path, asked)

    def _archive(self, asked):
        dest = asked["dest"]
        if _read(os.path.join(dest, ".version")) == asked["version"]:
            return
        if "data" not in asked and not self.check:
            self.wanted.append(dest)
            return
        self.changes.append(f"unpack {dest} {asked['version']}")
        if self.check:
            return
        fresh, old = dest + ".new", dest + ".old"
        for leftover in (fresh, old):
            _remove(leftover)
        _unpack(asked["data"], fresh)
        _write(os.path.join(fresh, ".version"), asked["version"])
        if not os.path.exists("/run/systemd/container"):  # whose disk, its host's, does not lose its power
            self._command(["sync", "-f", fresh])
        if os.path.exists(dest):
            os.rename(dest, old)
        os.rename(fresh, dest)
        _remove(old)

    def _file(self, asked):
        path, content = asked["path"], asked["content"]
        before = _read(path)
        if before != content:
            self.changes.append("write " + path)
            old, new = ("(secret)\n", "(another secret)\n") if asked["secret"] else (before or "", content)
            self.diff.append({"before_header": path, "after_header": path, "before": old, "after": new})
            self.readers += asked["restart"].split()
            if not self.check:
                _write(path, content, int(asked["mode"], 8), _uid(asked["owner"]), _gid(asked["group"]))
        self._own(path, asked)

    def _own(self, path, asked):
        if self.check and not (os.path.exists(path) and _known(asked["owner"])):
            return
        has, mode = os.stat(path), int(asked["mode"], 8)
        if (has.st_uid, has.st_gid) != (_uid(asked["owner"]), _gid(asked["group"])):
            self.changes.append("own " + path)
            if not self.check:
                os.chown(path, _uid(asked["owner"]), _gid(asked["group"]))
        if stat.S_IMODE(has.st_mode) != mode:
            self.changes.append("mode of " + path)
            if not self.check:
                os.chmod(path, mode)

    def _note(self, names):
        """Enable the units and note them for the start; they restart where any of this component changed."""
        for name in names:
            self._enable(name)
        if names and not self.check:
            pending = json.loads(_read(PENDING) or "{}")
            pending.update({name: bool(self.changes) or pending.get(name, False) for name in names})
            _write(PENDING, json.dumps(pending))

    def _enable(self, name):
        """What `systemctl enable` does for WantedBy=multi-user.target, without its second of reloading."""
        link = os.path.join(WANTS, name)
        if os.path.islink(link):
            return
        self.changes.append("enable " + name)
        if not self.check:
            os.makedirs(WANTS, exist_ok=True)
            ours = os.path.join(UNITS, name)
            os.symlink(ours if os.path.exists(ours) else "/usr/lib/systemd/system/" + name, link)

    def start(self):
        """Restart what changed, start what is down, wait for neither."""
        pending = json.loads(_read(PENDING) or "{}")
        restart = sorted(name for name, changed in pending.items() if changed)
        others = sorted(name for name, changed in pending.items() if not changed)
        states = self.run(["systemctl", "is-active", *others])[1].split() if others else []
        down = [name for name, state in zip(others, states) if state in ("inactive", "failed")]  # noqa: B905
        if restart:
            self.changes.append("restart " + " ".join(restart))
            if self._outdated(restart):
                self._command(["systemctl", "daemon-reload"])
            self._command(["systemctl", "restart", "--no-block", *restart])
        if down:
            self.changes.append("start " + " ".join(down))
            self._command(["systemctl", "start", "--no-block", *down])
        if not self.check and os.path.exists(PENDING):
            os.unlink(PENDING)

    def _outdated(self, names):
        """Whether systemd knows some unit by older files. One that it never read it reads when it starts it."""
        return "yes" in self.run(["systemctl", "show", "--property=NeedDaemonReload", "--value", *names])[1].split()

    def _command(self, argv):
        if self.check:
            return
        code, output = self.run(argv)
        if code != 0:
            words = output.strip().splitlines()
            raise Failure(f"{' '.join(argv)} exited with {code}: {words[-1] if words else 'no output'}")


def _known(name):
    try:
        return pwd.getpwnam(name)
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


def _write(path, content, mode=0o644, uid=-1, gid=-1):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".labctl-new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())  # a power cut right after provisioning must not leave an empty file
    os.replace(temporary, path)


def _unpack(data, folder):
    # Imported here: most runs unpack nothing, and these take longer to import than the whole rest.
    import base64  # noqa: PLC0415
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    try:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise Failure(f"{folder}: {error}") from error


def _remove(folder):
    if os.path.lexists(folder):
        import shutil  # noqa: PLC0415

        shutil.rmtree(folder, ignore_errors=True)


def run(argv):
    """Run a program; its exit code and all it printed."""
    import subprocess  # noqa: PLC0415

    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False
    )
    return done.returncode, done.stdout.decode(errors="replace")


def put_in_place(asked, run):
    """Every component in turn, then the start of what changed; what was done, by component.

    Ends early where an archive is wanted (the caller sends it and asks for everything again: what is done already stays
    as it is) and where something fails.
    """
    done, at = [], ""
    answer = {"components": done, "wanted": [], "diff": []}
    try:
        for wish in asked["components"]:
            at = wish["name"]
            component = Component(asked["check"], run)
            done.append({"name": at, "changes": component.changes})
            component.apply(wish)
            answer["diff"] += component.diff
            answer["wanted"] = component.wanted
            if component.wanted:
                return answer
        at = "units"
        component = Component(asked["check"], run)
        done.append({"name": at, "changes": component.changes})
        component.start()
    except (Failure, OSError, KeyError, ValueError) as error:
        answer.update({"failed": True, "msg": f"{at}: {str(error) or type(error).__name__}"})
    return answer


def main():
    """Read what is asked from standard input, answer on standard output."""
    print(json.dumps(put_in_place(json.load(sys.stdin), run)))


if __name__ == "__main__":
    main()
