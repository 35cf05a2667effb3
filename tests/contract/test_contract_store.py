"""The promises of `ObjectStore`."""

from __future__ import annotations

import os

import pytest

from taskfleet.errors import NotFound, TooLarge
from taskfleet.ports import LINE_MAX_BYTES

KEY = "uploads/client ü/tasks.txt"


def put(world, data: bytes) -> None:
    world.store.put(KEY, data, content_type="text/plain")


def test_get_returns_what_was_put_last(world):
    put(world, b"first")
    put(world, b"\x00second\xff")
    assert world.store.get(KEY) == b"\x00second\xff"


def test_a_file_is_stored_whole(world, tmp_path):
    path = tmp_path / "movie.mp4"
    path.write_bytes(bytes(range(256)) * 40_000)
    world.store.put_file(KEY, str(path), content_type="video/mp4")
    assert world.store.get(KEY) == path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
def test_an_object_is_written_to_a_file(world, tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    put(world, data[:size])
    path = tmp_path / "copy"
    path.write_bytes(b"what was there before")
    assert world.store.get_file(KEY, str(path), max_bytes=size) == size
    assert path.read_bytes() == data[:size]


def test_an_object_is_written_to_an_open_file_which_is_closed(world, tmp_path):
    put(world, b"12345")
    descriptor = os.open(tmp_path / "copy", os.O_WRONLY | os.O_CREAT)
    assert world.store.get_file(KEY, descriptor, max_bytes=5) == 5
    assert (tmp_path / "copy").read_bytes() == b"12345"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_an_object_too_large_or_missing_is_not_written_to_a_file(world, tmp_path):
    put(world, b"12345")
    with pytest.raises(TooLarge, match="over the cap of 4"):
        world.store.get_file(KEY, str(tmp_path / "copy"), max_bytes=4)
    assert (tmp_path / "copy").read_bytes() == b""
    with pytest.raises(NotFound, match="none"):
        world.store.get_file("movies/none", str(tmp_path / "copy"), max_bytes=4)
    with pytest.raises(FileNotFoundError):
        world.store.get_file(KEY, str(tmp_path / "no" / "folder"), max_bytes=9)


def test_a_missing_file_is_an_error_of_the_caller(world, tmp_path):
    with pytest.raises(FileNotFoundError):
        world.store.put_file(KEY, str(tmp_path / "none"), content_type="video/mp4")


def test_a_missing_object_is_not_found(world):
    missing = "movies/none.mp4"
    with pytest.raises(NotFound, match=missing):
        world.store.get(missing)
    with pytest.raises(NotFound, match=missing):
        next(world.store.lines(missing))
    assert world.store.etag(missing) is None


def test_a_deleted_object_is_gone_and_may_be_deleted_again(world):
    put(world, b"x")
    world.store.delete(KEY)
    world.store.delete(KEY)
    assert world.store.etag(KEY) is None


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [(0, 3, b"012"), (4, 1, b"4"), (7, 100, b"789"), (9, 1, b"9"), (0, 10, b"0123456789")],
)
def test_a_range_is_that_part_of_the_object(world, offset, length, found):
    put(world, b"0123456789")
    assert world.store.get_range(KEY, offset, length) == found


def test_a_range_that_is_not_there_is_not_found(world):
    put(world, b"0123456789")
    for key, offset in ((KEY, 10), (KEY, 99), ("logs/none", 0)):
        with pytest.raises(NotFound):
            world.store.get_range(key, offset, 5)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a\n", b"b\n"]),
        (b"a\r\nb\r\n\r\nc", [b"a\r\n", b"b\r\n", b"\r\n", b"c"]),
        ("ü\u2028ü\x0bx\n\n".encode(), ["ü\u2028ü\x0bx\n".encode(), b"\n"]),
        (b"\n", [b"\n"]),
        (b"x" * LINE_MAX_BYTES + b"\r\n" + b"y", [b"x" * LINE_MAX_BYTES + b"\r\n", b"y"]),
        (b"x" * LINE_MAX_BYTES, [b"x" * LINE_MAX_BYTES]),
    ],
    ids=[
        "empty",
        "one",
        "unix",
        "dos",
        "only-newlines-end-lines",
        "blank",
        "longest",
        "longest-end",
    ],
)
def test_lines_come_with_their_ends_from_any_line_on(world, data, lines):
    put(world, data)
    etag = world.store.etag(KEY)
    for first in range(len(lines) + 1):
        offset = sum(map(len, lines[:first]))
        assert list(world.store.lines(KEY, offset=offset)) == lines[first:]
        assert list(world.store.lines(KEY, etag=etag, offset=offset)) == lines[first:]


def test_from_an_offset_another_content_is_not_read(world):
    put(world, b"a\nb\n")
    etag = world.store.etag(KEY)
    for other in (b"a\nc\n", b"a"):
        put(world, other)
        for offset in (2, 4):
            with pytest.raises(NotFound):
                list(world.store.lines(KEY, etag=etag, offset=offset))


def test_only_the_rest_of_a_file_is_read_from_an_offset(world):
    put(world, b"sleep 1000\n" * 1_000_000 + b"last\n")
    assert list(world.store.lines(KEY, offset=11_000_000)) == [b"last\n"]


def test_a_million_lines_are_streamed(world):
    put(world, b"sleep 1000\n" * 1_000_000)
    lines = world.store.lines(KEY)
    assert next(lines) == b"sleep 1000\n"
    assert sum(1 for _ in lines) == 999_999


@pytest.mark.parametrize("extra", [1, 5_000_000])
def test_a_line_too_long_is_refused_after_the_lines_before_it(world, extra):
    put(world, b"a\n" + b"x" * (LINE_MAX_BYTES + extra))
    lines = world.store.lines(KEY)
    assert next(lines) == b"a\n"
    with pytest.raises(TooLarge, match=str(LINE_MAX_BYTES)):
        next(lines)


def test_an_etag_stands_for_the_content(world):
    put(world, b"one")
    etag = world.store.etag(KEY)
    put(world, b"two")
    assert world.store.etag(KEY) != etag
    with pytest.raises(NotFound):
        next(world.store.lines(KEY, etag=etag))
    put(world, b"one")
    assert world.store.etag(KEY) == etag
    assert list(world.store.lines(KEY, etag=etag)) == [b"one"]


def test_an_object_larger_than_max_bytes_is_refused(world):
    world.store.put("sized", b"12345", content_type="text/plain")
    assert world.store.get("sized", max_bytes=5) == b"12345"
    with pytest.raises(TooLarge, match="over the cap of 4"):
        world.store.get("sized", max_bytes=4)
