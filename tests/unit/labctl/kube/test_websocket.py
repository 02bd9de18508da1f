from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.kube import websocket as ws
from labctl.kube.websocket import BINARY, CLOSE, PING, TEXT, Decoder, Piece, WebSocketError, frame

MASK = bytes.fromhex("37fa213d")


def fed(decoder: Decoder, data: bytes, step: int) -> list[Piece]:
    return [piece for at in range(0, len(data), step) for piece in decoder.feed(data[at : at + step])]


def messages(pieces: list[Piece]) -> list[tuple[int, bytes]]:
    """Whole messages of what arrived in pieces."""
    found: list[tuple[int, bytes]] = []
    parts: list[bytes] = []
    for piece in pieces:
        if piece.opcode >= CLOSE:
            found.append((piece.opcode, piece.data))
            continue
        assert piece.first == (not parts)
        parts.append(piece.data)
        if piece.last:
            found.append((piece.opcode, b"".join(parts)))
            parts = []
    assert not parts
    return found


def test_the_accept_key_is_the_rfcs_own_example() -> None:
    assert ws.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_frames_are_the_rfcs_own_examples() -> None:
    assert frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert frame(TEXT, b"Hello", mask=MASK) == bytes.fromhex("818537fa213d7f9f4d5158")
    assert frame(BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
    assert frame(BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


def test_a_fragmented_message_with_a_ping_between_is_the_rfcs_own_example() -> None:
    data = bytes.fromhex("010348656c") + frame(PING, b"?") + bytes.fromhex("80026c6f")
    pieces = list(Decoder(masked=False).feed(data))
    assert [(piece.opcode, piece.data, piece.first, piece.last) for piece in pieces] == [
        (TEXT, b"Hel", True, False),
        (PING, b"?", True, True),
        (TEXT, b"lo", False, True),
    ]


@given(
    sent=st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(st.binary(max_size=400), min_size=1, max_size=3))
    ),
    mask=st.one_of(st.just(b""), st.binary(min_size=4, max_size=4)),
    step=st.integers(1, 700),
    ping=st.booleans(),
)
def test_whatever_is_sent_in_whatever_fragments_arrives(
    sent: list[tuple[int, list[bytes]]], mask: bytes, step: int, ping: bool
) -> None:
    data, wanted = b"", []
    for opcode, parts in sent:
        for number, part in enumerate(parts):
            data += frame(opcode if number == 0 else 0, part, mask=mask, final=number == len(parts) - 1)
            if ping and number < len(parts) - 1:
                data += frame(PING, b"p", mask=mask)
        wanted.append((opcode, b"".join(parts)))
    got = messages([piece for piece in fed(Decoder(masked=bool(mask)), data, step) if piece.opcode < CLOSE])
    assert got == wanted


@given(st.binary(max_size=64), st.integers(1, 9), st.booleans())
def test_noise_is_refused_or_read_but_never_more_than_was_sent(noise: bytes, step: int, masked: bool) -> None:
    decoder = Decoder(masked=masked)
    try:
        pieces = fed(decoder, noise, step)
    except WebSocketError:
        return
    assert sum(len(piece.data) for piece in pieces) <= len(noise)


def test_a_huge_frame_is_handed_on_as_it_comes() -> None:
    decoder = Decoder(masked=False)
    head = frame(BINARY, bytes(1 << 20))[:10]
    assert [len(piece.data) for piece in decoder.feed(head + b"abc")] == [3]
    assert [(len(piece.data), piece.first, piece.last) for piece in decoder.feed(b"defg")] == [(4, False, False)]


@pytest.mark.parametrize(
    ("data", "masked"),
    [
        pytest.param(b"\xc1\x00", False, id="a reserved bit"),
        pytest.param(b"\x83\x00", False, id="an unknown opcode"),
        pytest.param(b"\x09\x00", False, id="a fragmented ping"),
        pytest.param(b"\x89\x7e\x00\x7e", False, id="a long ping"),
        pytest.param(b"\x81\x00", True, id="an unmasked frame from a client"),
        pytest.param(b"\x81\x80\x00\x00\x00\x00", False, id="a masked frame from a server"),
        pytest.param(b"\x80\x00", False, id="a continuation of nothing"),
        pytest.param(b"\x01\x01a\x81\x00", False, id="a message within a message"),
        pytest.param(b"\x82\x7f\xff" + bytes(7), False, id="a length beyond 63 bits"),
    ],
)
def test_the_protocols_rules_are_held(data: bytes, masked: bool) -> None:
    with pytest.raises(WebSocketError):
        list(Decoder(masked=masked).feed(data))


def test_a_close_frame_carries_code_and_reason() -> None:
    (piece,) = Decoder(masked=False).feed(ws.close_frame(ws.GOING_AWAY, "bye"))
    assert (piece.opcode, piece.data) == (CLOSE, b"\x03\xe9bye")
    assert len(ws.close_frame(reason="x" * 500)) == 127
    assert base64.b64decode(ws.accept("x"))
