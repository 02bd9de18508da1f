"""A remote command's channels over WebSocket and over SPDY: the same events, whatever they travel in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kubelet.channels import (
    CLOSE,
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    Channels,
    Event,
    SpdyChannels,
    WebSocketChannels,
)
from agents.kubelet.remote_command import Wanted, exit_status, failed, runc_message, wanted
from labctl.kube import spdy, websocket
from labctl.kube.errors import BadRequest
from labctl.runtime.errors import LabError

MASK = b"mask"
ALL = (STDIN, STDOUT, STDERR)


def said(channel: int, data: bytes) -> bytes:
    return websocket.frame(websocket.BINARY, bytes([channel]) + data, mask=MASK)


def heard(channels: Channels, data: bytes, step: int = 10_000) -> list[Event]:
    return [event for at in range(0, len(data), step) for event in channels.feed(data[at : at + step])]


def joined(events: list[Event]) -> list[tuple[int, bytes | None]]:
    """Events with neighbouring bytes of a channel as one."""
    found: list[tuple[int, bytes | None]] = []
    for event in events:
        if event.data is not None and found and found[-1][0] == event.channel and found[-1][1] is not None:
            found[-1] = (event.channel, found[-1][1] + event.data)
        else:
            found.append((event.channel, event.data))
    return found


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """What a client reads: (channel, bytes), and (-1, close frame's payload)."""
    return [
        (-1, piece.data) if piece.opcode == websocket.CLOSE else (piece.data[0], piece.data[1:])
        for piece in websocket.Decoder(masked=False).feed(data)
    ]


def test_a_v5_client_ends_its_input_and_a_v4_client_cannot() -> None:
    data = said(STDIN, b"hello") + said(CLOSE, bytes([STDIN]))
    assert heard(WebSocketChannels("v5.channel.k8s.io", ALL), data) == [Event(STDIN, b"hello"), Event(STDIN, None)]
    assert heard(WebSocketChannels("v4.channel.k8s.io", ALL), data) == [Event(STDIN, b"hello")]


def test_the_first_message_is_empty_and_on_the_first_output() -> None:
    assert messages(WebSocketChannels("v5.channel.k8s.io", ALL).open()) == [(STDOUT, b"")]
    assert messages(WebSocketChannels("v5.channel.k8s.io", (STDIN,)).open()) == [(ERROR, b"")]


def test_pings_are_answered_and_a_close_is_noticed() -> None:
    channels = WebSocketChannels("v5.channel.k8s.io", ALL)
    assert heard(channels, websocket.frame(websocket.PING, b"x", mask=MASK)) == []
    assert channels.take_replies() == websocket.frame(websocket.PONG, b"x")
    assert channels.take_replies() == b""
    assert not channels.left
    heard(channels, websocket.close_frame(mask=MASK))
    assert channels.left


def test_the_end_is_a_status_and_a_close_frame() -> None:
    end = messages(WebSocketChannels("v5.channel.k8s.io", ALL).finish({"status": "Success"}))
    assert end == [(ERROR, b'{"status":"Success"}'), (-1, b"\x03\xe8")]


@given(st.lists(st.tuples(st.sampled_from([STDIN, RESIZE]), st.binary(min_size=1, max_size=50))), st.integers(1, 60))
def test_input_arrives_whole_however_it_is_cut(sent: list[tuple[int, bytes]], step: int) -> None:
    whole = joined([Event(channel, data) for channel, data in sent])
    web = b"".join(said(channel, data) for channel, data in sent)
    assert joined(heard(WebSocketChannels("v5.channel.k8s.io", ALL), web, step)) == whole
    client, streams = opened("error", "stdin", "stdout", "resize")
    plain = b"".join(client.data(3 if channel == STDIN else 7, data) for channel, data in sent)
    assert joined(heard(streams, plain, step)) == whole


def opened(*kinds: str) -> tuple[spdy.Encoder, SpdyChannels]:
    """A SPDY client that has opened streams 1, 3, 5, … of these kinds."""
    client, channels = spdy.Encoder(), SpdyChannels((STDIN, STDOUT, RESIZE))
    for number, kind in enumerate(kinds):
        assert heard(channels, client.syn_stream(2 * number + 1, {"streamType": kind})) == []
    return client, channels


def test_a_spdy_session_is_complete_once_every_stream_is_there() -> None:
    client, channels = opened("error", "stdin", "stdout")
    assert not channels.complete
    heard(channels, client.syn_stream(7, {"streamType": "resize"}))
    assert channels.complete
    replies = [(frame.kind, frame.stream) for frame in spdy.Decoder().feed(channels.take_replies())]
    assert replies == [(spdy.SYN_REPLY, number) for number in (1, 3, 5, 7)]
    out = list(spdy.Decoder().feed(channels.send(STDOUT, b"x") + channels.finish({"status": "Success"})))
    assert [(one.kind, one.stream, one.data, one.fin) for one in out] == [
        (0, 5, b"x", False),
        (0, 1, b'{"status":"Success"}', False),
        (0, 5, b"", True),
        (0, 1, b"", True),
        (spdy.GOAWAY, 7, b"", False),
    ]


def test_a_spdy_stream_of_no_known_kind_or_twice_is_refused() -> None:
    _, channels = opened("error", "nonsense", "error")
    replies = [(frame.kind, frame.stream) for frame in spdy.Decoder().feed(channels.take_replies())]
    assert replies == [(spdy.SYN_REPLY, 1), (spdy.RST_STREAM, 3), (spdy.RST_STREAM, 5)]


def test_a_spdy_client_ends_its_input_and_pings() -> None:
    client, channels = opened("error", "stdin", "stdout", "resize")
    channels.take_replies()
    assert heard(channels, client.data(3, b"in", fin=True)) == [Event(STDIN, b"in"), Event(STDIN, None)]
    heard(channels, client.ping(1) + client.goaway(0))
    assert [frame.value for frame in spdy.Decoder().feed(channels.take_replies())] == [1]
    assert channels.left


@given(st.binary(max_size=80), st.booleans())
def test_noise_is_an_error_of_ours_or_nothing(noise: bytes, web: bool) -> None:
    channels: Channels = WebSocketChannels("v5.channel.k8s.io", ALL) if web else SpdyChannels(ALL)
    try:
        heard(channels, noise)
    except LabError:
        return


def test_the_streams_asked_for() -> None:
    assert wanted({"input": "1", "output": "1", "tty": "1", "error": "1"}) == Wanted(True, True, False, True)
    assert wanted({"error": "1"}).channels == (STDERR,)
    with pytest.raises(BadRequest, match="you must specify at least 1 of stdin, stdout, stderr"):
        wanted({"tty": "1"})


def test_statuses_are_those_that_clients_read_exit_codes_from() -> None:
    assert exit_status(["true"], 0) == {"metadata": {}, "status": "Success"}
    status = json.loads(json.dumps(exit_status(["sh", "-c", "exit 7"], 7)))
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"] == {"causes": [{"reason": "ExitCode", "message": "7"}]}
    assert failed("why")["message"] == "Internal error occurred: error executing command in container: why"


def test_runcs_last_words_are_found() -> None:
    log = 'time="x" level=error msg="exec failed: exec: \\"nosuch\\": executable file not found in $PATH"\n'
    assert runc_message(log) == 'exec failed: exec: "nosuch": executable file not found in $PATH'
    assert runc_message("plain words\r\n") == "plain words"
    assert runc_message("") == "no output"
