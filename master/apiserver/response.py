"""A reply as a Flask response: headers, warnings, streams."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import flask

from master.apiserver.reply import Reply
from master.apiserver.wsgi import Whole

# Go's words, which clients show their users: `Not Found`, where werkzeug shouts and Python 3.13 has newer names.
_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus} | {
    413: "413 Request Entity Too Large",
    422: "422 Unprocessable Entity",
}


def respond(reply: Reply, warnings: Sequence[str], *, request_id: str) -> flask.Response:
    """The response; a stream goes out chunk by chunk, as it comes."""
    code = 200 if reply.code == 101 else reply.code  # a joined connection's own body answers 101, and werkzeug drops it
    make = Whole if isinstance(reply.body, bytes) else flask.Response
    headers = {"Content-Type": reply.content_type, "Audit-Id": request_id, "Cache-Control": "no-cache, private"}
    told = [("Warning", f'299 - "{_quoted(warning)}"') for warning in warnings]
    return make(reply.body, status=_LINES.get(code, str(code)), headers=[*(headers | reply.headers).items(), *told])


def _quoted(text: str) -> str:
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:1024])
    return printable.replace("\\", "\\\\").replace('"', '\\"')
