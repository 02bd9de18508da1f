"""Calling nerdctl, and what it tells of the node: containerd's version, and the images that are there."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.runtime import Image, RuntimeFailure
from labctl.runtime.shell import CommandError, Output, Shell

QUICK_S, SLOW_S = 60.0, 240.0  # deadlines of reading and of starting, for the slowest machine
_UNREACHABLE = re.compile(r"cannot access containerd socket|connection (error|refused)|context deadline|Unavailable")


class Nerdctl:
    """One node's nerdctl."""

    def __init__(self, shell: Shell, settings: cli.Settings) -> None:
        self.settings = settings
        self._shell = shell
        self._images: tuple[int, tuple[Image, ...]] | None = None
        self._version = ""

    def version(self) -> str:
        """containerd's name and version; asked once, afterwards only its socket is tried."""
        self._reach()
        if not self._version:
            answer = msgspec.json.decode(self.call(["version", "--format", "{{json .}}"]).stdout)
            parts = (answer.get("Server") or {}).get("Components") or ()
            found = [part["Version"] for part in parts if part["Name"] == "containerd"]
            if not found:
                raise RuntimeFailure("containerd does not answer", reason="ContainerRuntimeNotReady")
            self._version = f"containerd://{found[0].partition('~')[0]}"
        return self._version

    def images(self) -> Sequence[Image]:
        """Every image; listed again only when containerd's content has changed."""
        stamp = self._content_stamp()
        if self._images is None or self._images[0] != stamp or not stamp:
            lines = self.call(["images", "--no-trunc", "--format", "{{json .}}"]).stdout.splitlines()
            self._images = (stamp, tuple(cli.images_of(lines)))
        return self._images[1]

    def image_id(self, name: str) -> str:
        """The id of an image on the node, "" where there is none of that name."""
        full = cli.short_name(name)
        return next((image.id for image in self.images() if {name, full} & set(image.names)), "")

    def pull(self, image: str) -> None:
        """Fetch an image; RuntimeFailure(reason=ErrImagePull) where that fails."""
        self._images = None
        try:
            self.call(["pull", "--quiet", image], timeout_s=SLOW_S)
        except RuntimeFailure as error:
            raise RuntimeFailure(str(error), reason="ErrImagePull") from error

    def call(self, arguments: Sequence[str], *, timeout_s: float = QUICK_S, check: bool = True) -> Output:
        """Run nerdctl; RuntimeFailure where it fails (with `check`), is not there, or overruns its deadline."""
        try:
            output = self._shell.run([*cli.base(self.settings), *arguments], timeout_s=timeout_s, check=False)
        except CommandError as error:
            raise RuntimeFailure(str(error), reason="ContainerRuntimeNotReady") from error
        if check and output.code:
            raise failure(output.stderr, reason="RuntimeError")
        return output

    def _content_stamp(self) -> int:
        """Changes whenever an image is loaded or deleted; 0 where it cannot be read."""
        blobs = Path(self.settings.containerd_root, "io.containerd.content.v1.content/blobs/sha256")
        try:
            return blobs.stat().st_mtime_ns
        except OSError:
            return 0

    def _reach(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(self.settings.address)
            except OSError as error:
                message = f"containerd does not answer at {self.settings.address}: {error}"
                raise RuntimeFailure(message, reason="ContainerRuntimeNotReady") from error


def unreachable(words: str) -> bool:
    """Whether nerdctl complains of containerd rather than of what it was asked."""
    return bool(_UNREACHABLE.search(words))


def failure(words: str, *, reason: str) -> RuntimeFailure:
    """What nerdctl said as an error; an absent containerd has a reason of its own."""
    if unreachable(words):
        reason = "ContainerRuntimeNotReady"
    return RuntimeFailure(cli.message_of(words), reason=reason)


def text_of(path: Path) -> str:
    """What a file says that nerdctl writes, or we beside it; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
