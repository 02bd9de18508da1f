"""The kernel's watchdog (softdog, i6300esb, ...): once armed, it resets the machine unless it is put off in time.

Source: https://docs.kernel.org/watchdog/watchdog-api.html
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct

DEVICE = "/dev/watchdog"
_SET_TIMEOUT, _KEEP_ALIVE = 0xC0045706, 0x80045705  # WDIOC_SETTIMEOUT, WDIOC_KEEPALIVE
_MAGIC_CLOSE = b"V"

_log = logging.getLogger(__name__)


class Watchdog:
    """Armed only while there is something to guard; closed with the magic letter, so that it does not fire then."""

    def __init__(self, path: str, timeout_s: int) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._fd = -1

    @property
    def armed(self) -> bool:
        """Whether the machine resets unless `pet` is called in time."""
        return self._fd >= 0

    def arm(self) -> bool:
        """Start it; False where the machine has none that takes our timeout."""
        if self.armed:
            return True
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            granted = struct.unpack("i", fcntl.ioctl(self._fd, _SET_TIMEOUT, struct.pack("i", self._timeout_s)))[0]
        except OSError as error:
            if self.armed:
                self.disarm()
            _log.debug("no watchdog: %s", error)
            return False
        if granted > self._timeout_s:
            _log.warning("the watchdog fires after %d s, not %d: it is of no use here", granted, self._timeout_s)
            self.disarm()
            return False
        return True

    def pet(self) -> None:
        """Put it off once more."""
        if self.armed:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._fd, _KEEP_ALIVE, struct.pack("i", 0))

    def disarm(self) -> None:
        """Stop it."""
        if self.armed:
            with contextlib.suppress(OSError):
                os.write(self._fd, _MAGIC_CLOSE)
            os.close(self._fd)
            self._fd = -1
