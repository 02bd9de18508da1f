from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.kube import spdy
from labctl.kube.spdy import Decoder, Encoder, Frame, SpdyError

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
HEADERS = st.dictionaries(NAMES, st.text("abc XYZ09/:", max_size=30), max_size=5)


def fed(data: bytes, step: int = 10_000) -> list[Frame]:
    decoder = Decoder()
    return [found for at in range(0, len(data), step) for found in decoder.feed(data[at : at + step])]


def test_the_dictionary_is_that_of_the_draft() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_a_port_forwarding_stream_is_opened_answered_and_ended() -> None:
    client = Encoder()
    headers = {"streamtype": "data", "port": "8080", "requestid": "0"}
    data = client.syn_stream(3, headers) + client.data(3, b"hello") + client.data(3, b"", fin=True)
    assert fed(data) == [
        Frame(spdy.SYN_STREAM, 3, headers=headers),
        Frame(0, 3, data=b"hello"),
        Frame(0, 3, fin=True),
    ]
    assert fed(Encoder().syn_reply(3)) == [Frame(spdy.SYN_REPLY, 3)]


def test_the_other_frames() -> None:
    other = Encoder()
    data = other.ping(7) + other.rst_stream(5, spdy.RST_CANCEL) + other.goaway(9)
    data += struct.pack(">HHI", 0x8003, spdy.WINDOW_UPDATE, 8) + struct.pack(">II", 3, 4096)
    data += struct.pack(">HHI", 0x8003, spdy.SETTINGS, 4) + bytes(4)
    assert fed(data) == [
        Frame(spdy.PING, value=7),
        Frame(spdy.RST_STREAM, 5, value=spdy.RST_CANCEL),
        Frame(spdy.GOAWAY, 9),
        Frame(spdy.WINDOW_UPDATE, 3, value=4096),
        Frame(spdy.SETTINGS, data=bytes(4)),
    ]


@given(
    st.lists(st.tuples(st.integers(1, 99), HEADERS, st.binary(max_size=300), st.booleans()), max_size=8),
    st.integers(1, 500),
)
def test_whatever_is_sent_in_whatever_pieces_arrives(
    sent: list[tuple[int, dict[str, str], bytes, bool]], step: int
) -> None:
    encoder, data = Encoder(), b""
    for stream, headers, payload, fin in sent:
        data += encoder.syn_stream(stream, headers) + encoder.data(stream, payload, fin=fin)
    frames = fed(data, step)
    opened = [(found.stream, found.headers) for found in frames if found.kind == spdy.SYN_STREAM]
    assert opened == [(stream, headers) for stream, headers, _, _ in sent]
    got = b"".join(found.data for found in frames if found.kind == 0)
    assert got == b"".join(payload for _, _, payload, _ in sent)
    assert sum(found.fin for found in frames) == sum(fin for _, _, _, fin in sent)


@given(st.binary(max_size=64), st.integers(1, 9))
def test_noise_is_refused_or_read_but_never_more_than_was_sent(noise: bytes, step: int) -> None:
    try:
        frames = fed(noise, step)
    except SpdyError:
        return
    assert sum(len(found.data) for found in frames) <= len(noise)


def _syn(block: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, spdy.SYN_STREAM, 10 + len(block)) + bytes(10) + block


def _deflated(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">HHI", 0x8002, 1, 0), id="another version"),
        pytest.param(struct.pack(">HHI", 0x8003, 1, 1 << 23), id="a huge control frame"),
        pytest.param(struct.pack(">HHI", 0x8003, spdy.RST_STREAM, 2) + bytes(2), id="a short control frame"),
        pytest.param(_syn(b"nonsense"), id="a block that is not deflated"),
        pytest.param(_syn(_deflated(struct.pack(">III", 1, 3, 0))), id="a header that is cut short"),
        pytest.param(_syn(_deflated(struct.pack(">I", 1))), id="a header block that ends early"),
        pytest.param(_syn(_deflated(bytes(10_000_000))), id="a bomb"),
    ],
)
def test_the_protocols_rules_are_held(data: bytes) -> None:
    with pytest.raises(SpdyError):
        fed(data)
