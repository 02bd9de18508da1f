"""The kubelet's part in self-fencing: it names the fenced pods, confirms renewals, and holds starts back.

Rules that keep an identity single, whatever freezes, crashes or is cut off:

1. A fenced pod is registered before its first container starts, and stays so until nothing of it is left.
2. Its containers start only while the Lease is confirmed, and after a silence that was long enough to be stopped for,
   only once the API server itself was asked after the silence whether the pod is still ours. The control plane marks a
   pod for deletion before it releases it, and reads the Lease before it does; so either we see the mark, or it sees
   our renewal.
3. Whoever finds the silence too long seals the pods and kills them: this process, or its guard.
4. A renewal promises the pods that are registered when it is sent, as long as a guard stands by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agents.kubelet.enforcer import Enforcer
from agents.kubelet.fencing import silence_s
from agents.kubelet.views import Pod
from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Forbidden, NotFound
from labctl.kube.events import Recorder
from labctl.kube.fencing import Mode, mode_of
from labctl.kube.meta import ObjectMeta, Reference
from labctl.kube.resources import PODS
from labctl.runtime.loop import Backoff, Stop, Wake

_IDLE_S = 3600.0
_DENIED_CAP_S = 10.0  # as often as upstream's status manager tries again (syncPeriod, status_manager.go)

_log = logging.getLogger(__name__)


class Fencing(Protocol):
    """What the pod loop asks."""

    def follow(self, pods: Mapping[str, Pod], annotations: Mapping[str, str]) -> None:
        """These pods (by uid) are here, on a node with these annotations; all others are gone without a trace."""
        ...

    def held(self, uid: str) -> bool:
        """Whether no container of the pod may be started now."""
        ...


class Unfenced:
    """No fencing: for tests of everything else."""

    def follow(self, pods: Mapping[str, Pod], annotations: Mapping[str, str]) -> None:
        """See `Fencing`."""

    def held(self, uid: str) -> bool:  # noqa: ARG002
        """See `Fencing`."""
        return False


@dataclass(frozen=True, slots=True)
class Means:
    """What it works with. `client` reads pods; `default` is the lab's setting."""

    enforcer: Enforcer
    client: Client
    recorder: Recorder
    default: Mode
    on_change: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Denied:
    """A pod that the API does not call ours, until when it is not asked about: its informer will tell as well."""

    backoff: Backoff
    until_s: float


class SelfFencing:
    """See the module. Safe to share between threads: heartbeat, pod loop and its own."""

    def __init__(self, means: Means) -> None:
        self._means, self._enforcer = means, means.enforcer
        self._folder, self._bounds = means.enforcer.folder, means.enforcer.bounds
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}  # the fenced ones
        self._cleared: set[str] = set()  # that the API called ours since the last silence
        self._denied: dict[str, _Denied] = {}  # that it called another's since then
        self.wake = Wake()  # there is something to ask again

    # -- the heartbeat's thread

    def now_s(self) -> float:
        """CLOCK_BOOTTIME; read it before a renewal is sent."""
        return self._enforcer.now_s()

    def promise(self) -> str:
        """What the next renewal promises: uids, comma-separated; none where nobody guards us."""
        watched_s, now_s = self._folder.watched_s(), self.now_s()
        if watched_s is None or not 0 <= now_s - watched_s <= self._bounds.term_after_s:
            return ""
        return ",".join(sorted(self._folder.pods()))

    def renewed(self, sent_s: float) -> None:
        """A renewal that was sent at `sent_s` has succeeded. After a silence nothing that is fenced may be left."""
        seen = self._enforcer.look()
        silent_s = silence_s(seen)
        if silent_s >= self._bounds.kill_after_s:
            with self._lock:
                self._cleared.clear()
                self._denied.clear()
                stopped = [pod for uid, pod in self._pods.items() if uid in seen.pods]
            self._enforcer.end(seen.pods)
            if seen.confirmed_s is not None:
                self._tell(stopped, silent_s)
        self._folder.confirm(sent_s)
        self.wake.ring()

    # -- the pod loop's thread

    def follow(self, pods: Mapping[str, Pod], annotations: Mapping[str, str]) -> None:
        """See `Fencing`. A pod that was fenced once stays it: others may rely on the promise."""
        registered = self._folder.pods()
        modes = {uid: mode_of(pod.metadata, annotations, self._means.default) for uid, pod in pods.items()}
        wanted = {uid: pod for uid, pod in pods.items() if uid in registered or modes[uid] in ("power", "self")}
        for uid in wanted.keys() - registered:
            self._folder.register(uid)
        for uid in {uid for uid in wanted if modes[uid] == "self"} - self._folder.relied():
            self._folder.rely(uid)
        for uid in registered - wanted.keys():
            self._folder.forget(uid)
        with self._lock:
            news = wanted.keys() != self._pods.keys()
            self._pods = wanted
            self._cleared &= wanted.keys()
            self._denied = {uid: denied for uid, denied in self._denied.items() if uid in wanted}
        if news:
            self.wake.ring()

    def held(self, uid: str) -> bool:
        """See `Fencing`."""
        seen = self._enforcer.look()
        with self._lock:
            if uid not in self._pods:
                return False
            cleared = uid in self._cleared and uid not in seen.sealed
        return not cleared or silence_s(seen) >= self._bounds.term_after_s

    # -- its own thread

    def start(self, stop: Stop) -> None:
        """Watch over the silence, and ask about pods, until `stop`."""
        threading.Thread(target=self._watch, args=(stop,), name="self-fencing", daemon=True).start()
        threading.Thread(target=self._ask, args=(stop,), name="fencing-questions", daemon=True).start()

    def patrol(self) -> float:
        """Stop what must stop; seconds until the next look is due.

        A pod may have been sealed after the API had called it ours, by a guard whose look was older: ask once more.
        """
        seen = self._enforcer.step()
        with self._lock:
            late = self._cleared & seen.sealed
            self._cleared -= late
        if late:
            self.wake.ring()
        return seen.wake_after_s

    def inquire(self, backoff: Backoff) -> float:
        """`clear`; seconds until it is due again, unless `wake` rings."""
        if self.clear():
            return backoff.next_s()
        backoff.reset()
        now_s = self.now_s()
        with self._lock:  # one that is due already waits for the next renewal, which rings
            rests_s = [denied.until_s - now_s for denied in self._denied.values() if now_s < denied.until_s]
        return min(rests_s, default=_IDLE_S)

    def clear(self) -> bool:
        """Ask the API about the pods that may not start yet; whether any answer is still wanted."""
        if silence_s(self._enforcer.look()) >= self._bounds.term_after_s:
            return False  # the next renewal rings
        now_s = self.now_s()
        with self._lock:
            resting = self._cleared | {uid for uid, denied in self._denied.items() if now_s < denied.until_s}
            asked = [pod for uid, pod in self._pods.items() if uid not in resting and not pod.terminating]
        left = False
        for pod in asked:
            since_s = self._folder.confirmed_s()
            try:
                ours = self._is_ours(pod.metadata)
            except ApiError as error:
                _log.info("pod %s may not start yet: %s", pod.key, error)
                left = True
                continue
            if ours:
                left |= not self._pass(pod.metadata.uid, since_s)
            else:
                self._deny(pod.metadata.uid, now_s)
        return left

    def _is_ours(self, meta: ObjectMeta) -> bool:
        """What the API says; ApiError where it does not answer."""
        try:
            found = self._means.client.get(PODS, meta.name, meta.namespace)["metadata"]
        except (NotFound, Forbidden):  # a node may not read what is bound to another: the name has moved
            return False
        return found["uid"] == meta.uid and not found.get("deletionTimestamp")

    def _deny(self, uid: str, now_s: float) -> None:
        with self._lock:
            if uid in self._pods:
                denied = self._denied.setdefault(uid, _Denied(Backoff(0.1, _DENIED_CAP_S), now_s))
                denied.until_s = now_s + denied.backoff.next_s()

    def _pass(self, uid: str, since_s: float | None) -> bool:
        """It may start, unless a silence came between the question and the answer."""
        seen = self._enforcer.look()
        with self._lock:
            if since_s is None or seen.now_s - since_s >= self._bounds.kill_after_s or uid not in self._pods:
                return False
            self._folder.unseal(uid)
            self._cleared.add(uid)
            self._denied.pop(uid, None)
        self._means.on_change()
        return True

    def _watch(self, stop: Stop) -> None:
        while not stop.is_set():
            wait_s = 0.1
            try:
                wait_s = self.patrol()
            except Exception:
                _log.exception("self-fencing stumbled")
            stop.wait_s(wait_s)

    def _ask(self, stop: Stop) -> None:
        backoff = Backoff(0.1, 1.0)
        while not stop.is_set():
            try:
                wait_s = self.inquire(backoff)
            except Exception:
                _log.exception("asking about fenced pods failed")
                wait_s = backoff.next_s()
            self.wake.wait_s(wait_s)

    def _tell(self, stopped: Iterable[Pod], silent_s: float) -> None:
        for pod in stopped:
            meta = pod.metadata
            about = Reference(api_version="v1", kind="Pod", name=meta.name, namespace=meta.namespace, uid=meta.uid)
            words = (
                f"The node's Lease was not renewed for {silent_s:.1f} s: the pod was stopped before it could be moved"
            )
            self._means.recorder.warning(about, "SelfFenced", words)
