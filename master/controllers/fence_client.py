"""Asking the fence agent: one HTTPS request with our certificate, and a deadline."""

from __future__ import annotations

import ssl
from urllib.parse import quote

import msgspec
import urllib3

from labctl.kube.errors import ApiError
from master.controllers.config import FenceAgent

_CONNECT_S = 3.0
_ANSWER_S = 90.0  # emulated machines and users' commands take their time


class FencingFailed(ApiError):
    """The machine is not confirmed off."""

    code, reason, retryable = 503, "FencingFailed", True


class _Answer(msgspec.Struct, frozen=True):
    evidence: str = ""
    error: str = ""


class FenceClient:
    """Calls the agent of labctl/vm/fence."""

    def __init__(self, agent: FenceAgent) -> None:
        self._agent = agent

    def power_off(self, node: str) -> str:
        """The evidence that the machine is off; FencingFailed where there is none."""
        try:
            status, data = self._post(node)
            told = msgspec.json.decode(data, type=_Answer)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise FencingFailed(f"the fence agent at {self._agent.url} does not answer: {error}") from error
        except msgspec.MsgspecError as error:
            raise FencingFailed(f"the fence agent at {self._agent.url} does not make sense: {error}") from error
        if status != 200:
            raise FencingFailed(f"the fence agent says: {told.error or status}")
        return told.evidence

    def _post(self, node: str) -> tuple[int, bytes]:
        """The answer's status and body; replaced in the simulation, which has no sockets."""
        context = ssl.create_default_context(cafile=self._agent.ca_file)
        context.load_cert_chain(self._agent.cert_file, self._agent.key_file)
        with urllib3.PoolManager(ssl_context=context, retries=False) as http:
            answer = http.request(
                "POST",
                f"{self._agent.url}/fence/{quote(node, safe='')}",
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=_ANSWER_S),
            )
            return answer.status, answer.data


def nobody(node: str) -> str:
    """Where no agent is configured."""
    raise FencingFailed(f"no fence agent is configured that could power {node} off")
