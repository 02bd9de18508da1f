from __future__ import annotations

from master.apiserver.reply import Reply
from master.apiserver.response import respond


def test_a_reply_has_each_header_once_and_a_line_for_each_warning() -> None:
    reply = Reply(b"{}", 201, headers={"Cache-Control": "public", "Retry-After": "1"})
    made = respond(reply, ["one", 'say "two"'], request_id="an-id")
    assert made.status == "201 Created"
    assert sorted(made.headers) == [
        ("Audit-Id", "an-id"),
        ("Cache-Control", "public"),
        ("Content-Length", "2"),
        ("Content-Type", "application/json"),
        ("Retry-After", "1"),
        ("Warning", '299 - "one"'),
        ("Warning", '299 - "say \\"two\\""'),
    ]


def test_a_stream_has_no_length() -> None:
    made = respond(Reply(iter([b"a", b"b"]), content_type="application/json;stream=watch"), [], request_id="an-id")
    assert (made.headers["Content-Type"], made.headers.get("Content-Length")) == ("application/json;stream=watch", None)
    assert b"".join(made.response) == b"ab"  # type: ignore[arg-type]
