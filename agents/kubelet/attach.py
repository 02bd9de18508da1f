"""`attach`: what a running container says from now on, until it ends or the client leaves."""

from __future__ import annotations

from pathlib import Path

from agents.kubelet import logs
from agents.kubelet.channels import STDERR, STDOUT
from agents.kubelet.remote_command import IDLE_S, SUCCESS, Session, Wanted
from agents.kubelet.wire import End, drive

_TICK_S = 0.1


class Attach:
    """Follows a container's log for a session. `run` blocks until either ends; `end` is the container's."""

    def __init__(self, session: Session, asked: Wanted, log_path: Path, end: End) -> None:
        self._session, self._asked, self._end = session, asked, end
        self._log = logs.Follower.from_now(log_path)

    def run(self) -> None:
        """See the class."""
        session = self._session
        if session.await_streams():
            session.listen(lambda _: None, lambda: True)
            drive(lambda: (session.wire, self._end), over=self._over, idle_s=IDLE_S, tick_s=_TICK_S)
        session.finish(SUCCESS)

    def _over(self) -> bool:
        """Asked every tick: hand on what there is; the container's last words come before its end."""
        over = self._end.ended or self._session.gone
        if not self._session.wire.full:
            for entry in self._log.entries():
                channel = STDERR if entry.stream == "stderr" else STDOUT
                if channel in self._asked.channels:
                    self._session.say(channel, entry.log.encode())
        return over
