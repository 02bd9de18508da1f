"""Running programs: argument lists only, always with a deadline, output kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labctl.runtime.errors import LabError


class CommandError(LabError):
    """A program failed, was not found or overran its deadline; the message ends with its last words."""

    def __init__(self, message: str, *, code: int, stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code, self.stderr = code, stderr


@dataclass(frozen=True, slots=True)
class Output:
    """What a finished program left: exit code and decoded streams."""

    code: int
    stdout: str
    stderr: str


class Shell(Protocol):
    """Something that runs a program and waits for it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        """Run `argv`; with `check`, raise CommandError on a non-zero exit. `env` adds to the environment."""
        ...


def at_usual_priority(argv: Sequence[str]) -> list[str]:
    """`argv`, run at the usual priority where ours is higher: what we start does not compete with us."""
    own = os.nice(0)
    if own >= 0 or shutil.which(argv[0]) is None:  # what is not there is missed under its own name
        return list(argv)
    return ["nice", "-n", str(-own), *argv]


class LocalShell:
    """Runs programs on this machine, none at a higher priority than the usual one."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        """See `Shell`. Not found is code 127, an overrun deadline code 124 (the program is killed)."""
        program = os.path.basename(argv[0])
        data = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            done = subprocess.run(
                at_usual_priority(argv),
                input=data,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                env={**os.environ, **env} if env else None,
                cwd=cwd,
            )
        except FileNotFoundError as error:
            raise CommandError(f"{argv[0]}: not found", code=127) from error
        except subprocess.TimeoutExpired as error:
            words = (error.stderr or b"").decode(errors="replace")
            raise CommandError(
                f"{program} did not finish within {timeout_s:g} s: {' '.join(argv)}", code=124, stderr=words
            ) from error
        output = Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if check and output.code != 0:
            last_words = (output.stderr.strip() or output.stdout.strip() or "no output").splitlines()[-1]
            raise CommandError(
                f"{program} exited with {output.code}: {last_words}",
                code=output.code,
                stderr=output.stderr,
            )
        return output
