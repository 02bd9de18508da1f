"""The HTTP pieces, fed in every possible cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from master.store.http1 import Body, read_head

CHUNKED = b'5\r\nhello\r\n1;ext="x"\r\n \r\n5\r\nworld\r\n0\r\nGrpc-Trailer: x\r\n\r\n'


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def source(data: bytes, size: int) -> Callable[[], bytes]:
    rest = iter(pieces(data, size))

    def more() -> bytes:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return more


@pytest.mark.parametrize("size", range(1, len(CHUNKED) + 1))
def test_a_chunked_body_is_the_same_however_it_is_cut(size: int) -> None:
    body = Body(None)
    assert b"".join(body.feed(piece) for piece in pieces(CHUNKED, size)) == b"hello world"
    assert body.complete


def test_a_chunked_body_is_not_complete_before_its_trailer_ends() -> None:
    body = Body(None)
    body.feed(CHUNKED[:-2])
    assert not body.complete


def test_a_counted_body_is_complete_at_its_length() -> None:
    body = Body(5)
    assert (body.feed(b"hel"), body.complete) == (b"hel", False)
    assert (body.feed(b"lo"), body.complete) == (b"lo", True)


def test_more_bytes_than_announced_are_an_error() -> None:
    with pytest.raises(ValueError, match="more bytes"):
        Body(2).feed(b"abc")


def test_a_chunk_size_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Body(None).feed(b"zz\r\n")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_head_is_read_however_it_is_cut_and_what_follows_is_kept(size: int) -> None:
    status, body, rest = read_head(source(b"HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 3\r\nX: y\r\n\r\nabc", size))
    assert status == 404
    assert b"abc".startswith(rest)
    body.feed(rest + b"abc"[len(rest) :])
    assert body.complete


def test_an_empty_body_is_complete_at_once() -> None:
    _, body, rest = read_head(source(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 100))
    assert (body.complete, rest) == (True, b"")


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 70_000])
def test_what_is_not_http_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"HTTP|length|end"):
        read_head(source(data, 8192))


def test_a_head_that_breaks_off_is_an_error() -> None:
    with pytest.raises(EOFError):
        read_head(source(b"HTTP/1.1 200 OK\r\nContent-Le", 10))
