"""A picture's file costs no more than one of its size may, whatever it is made of (D4)."""

from __future__ import annotations

import io
import re
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from animoto import picture, structure
from animoto.orientation import orientation
from tests.support.animoto import encoded, jpeg, photograph

SMALL = Image.new("RGB", (64, 36), "red")
SEGMENT = struct.Struct(">BBH")


def segment(code: int, content: bytes) -> bytes:
    return SEGMENT.pack(0xFF, code, 2 + len(content)) + content


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def after(data: bytes, at: int, inserted: bytes) -> bytes:
    return data[:at] + inserted + data[at:]


def exif_bomb(size: int) -> bytes:
    """EXIF data of `size` bytes, each of whose values is nearly all of them."""
    entries = (size - 14) // 12
    head = b"II*\0" + struct.pack("<LH", 8, entries)
    body = b"".join(struct.pack("<HHLL", 0x9000 + n, 7, size - 16, 8) for n in range(entries))
    return (head + body).ljust(size, b"\0")


def gif(inserted: bytes) -> bytes:
    data = encoded(SMALL, "GIF")
    return after(data, 13 + 3 * (2 << (data[10] & 7)), inserted)


def png(inserted: bytes) -> bytes:
    return after(encoded(SMALL, "PNG"), 33, inserted)


def webp_exif(content: bytes) -> bytes:
    data = encoded(SMALL, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0")
    at = data.index(b"EXIF")
    data = data[: at + 4] + struct.pack("<I", len(content)) + content
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


ONE_MB = 1_000_000
FILES: dict[str, Callable[[], bytes]] = {
    "gif of comments of one byte": lambda: gif(b"!\xfe" + b"\1x" * ONE_MB + b"\0"),
    "gif of many comments": lambda: gif(b"!\xfe\1x\0" * ONE_MB),
    "gif of zeros": lambda: gif(bytes(3 * ONE_MB)),
    "jpeg of small EXIF segments": lambda: after(
        jpeg(SMALL), 2, segment(0xE1, b"Exif\0\0abcdefgh") * 150_000
    ),
    "jpeg of large EXIF segments": lambda: after(
        jpeg(SMALL), 2, segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300
    ),
    "jpeg of comments": lambda: after(jpeg(SMALL), 2, segment(0xFE, b"") * 500_000),
    "jpeg of junk": lambda: after(jpeg(SMALL), 20, b"\0" * (4 * ONE_MB)),
    "jpeg of padding": lambda: after(jpeg(SMALL), 20, b"\xff" * (4 * ONE_MB)),
    "jpeg of tables": lambda: after(jpeg(SMALL), 2, segment(0xDB, bytes(65) * 1000) * 100),
    "jpeg of one EXIF bomb": lambda: after(
        jpeg(SMALL), 2, segment(0xE1, b"Exif\0\0" + exif_bomb(60_000))
    ),
    "webp of one EXIF bomb": lambda: webp_exif(exif_bomb(60_000)),
    "png of one EXIF bomb": lambda: png(chunk(b"eXIf", exif_bomb(60_000))),
    "png of private chunks": lambda: png(chunk(b"prIv") * 300_000),
    "png of empty data": lambda: png(chunk(b"IDAT") * 300_000),
    "png of profiles": lambda: png(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(ONE_MB))) * 2_000),
    "png of packed text": lambda: png(
        chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(ONE_MB))) * 2_000
    ),
    "png of packed EXIF": lambda: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n\n\nf" * ONE_MB)) * 2_000
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_odd_parts_costs_little(tmp_path: Path, name: str) -> None:
    path = tmp_path / "0"
    path.write_bytes(FILES[name]())
    size = path.stat().st_size
    tracemalloc.start()
    begun = time.thread_time()
    reason = ""
    try:
        picture.load(str(path), (320, 180), "contain")
    except picture.NotAPicture as error:
        reason = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert re.search("more than|over the cap|broken|^$", reason)
    assert time.thread_time() - begun < 1
    assert peak < 3 * size + 8 * ONE_MB


def test_a_canvas_over_the_cap_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    canvas += (15_999).to_bytes(3, "little") + (10_999).to_bytes(3, "little")
    (tmp_path / "webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas)
    plain = bytearray(encoded(SMALL, "GIF"))
    plain[6:10] = struct.pack("<HH", 16_000, 11_000)
    (tmp_path / "gif").write_bytes(plain)
    wide = bytearray(encoded(SMALL, "GIF"))
    at = wide.index(b",", 13 + 3 * (2 << (wide[10] & 7)))
    wide[at + 5 : at + 9] = struct.pack("<HH", 16_000, 11_000)
    (tmp_path / "frame").write_bytes(wide)
    for name in ("webp", "gif", "frame"):
        with pytest.raises(picture.NotAPicture, match="16000 x 11000 pixels is over the cap"):
            picture.load(str(tmp_path / name), (320, 180), "contain")


# --- scans ----------------------------------------------------------------------------------


def of_scans(data: bytes, count: int, between: bytes = b"") -> bytes:
    """Returns a JPEG whose last scan is there `count` times more."""
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    return data[:-2] + (between + scan) * count + data[-2:]


LARGE = np.tile(np.arange(256, dtype=np.uint8), (2400, 14))
PROGRESSIVE = jpeg(Image.fromarray(LARGE), progressive=True, quality=30)
SEQUENTIAL = jpeg(Image.fromarray(LARGE), quality=30)
SCANS = {
    "progressive": lambda: of_scans(PROGRESSIVE, 300),
    "sequential": lambda: of_scans(SEQUENTIAL, 100),
    "behind comments that hold an end": lambda: of_scans(
        PROGRESSIVE, 200, segment(0xFE, b"\xff\xd9" * 4)
    ),
    "behind restarts": lambda: of_scans(PROGRESSIVE, 200, b"\xff\xd0\xff\xd3\xff\x01"),
    "behind comments": lambda: after(
        PROGRESSIVE, PROGRESSIVE.rindex(b"\xff\xda"), segment(0xFE, b"") * 100_000
    ),
}


@pytest.mark.parametrize("name", SCANS)
def test_a_jpeg_of_very_many_scans_is_refused_and_waits_for_no_other(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "0"
    path.write_bytes(SCANS[name]())
    begun = time.thread_time()
    with (
        picture._one_large,  # another picture is being decoded
        pytest.raises(picture.NotAPicture, match=r"more than (50 scans|1000 segments)"),
    ):
        picture.load(str(path), (320, 180), "contain")
    assert time.thread_time() - begun < 0.6


def test_as_many_scans_as_the_cap_allows_cost_little(tmp_path: Path) -> None:
    """17 million pixels; before the cap, 300 scans of 8.6 million took 1.6 s."""
    tall = jpeg(Image.fromarray(np.tile(LARGE, (2, 1))), progressive=True, quality=30)
    path = tmp_path / "0"
    path.write_bytes(of_scans(tall, structure.SCANS_MAX - tall.count(b"\xff\xda")))
    begun = time.thread_time()
    picture.load(str(path), (320, 180), "contain")
    assert time.thread_time() - begun < 3


def test_scans_behind_the_end_do_not_count() -> None:
    """A camera puts a second picture, and a phone a film, behind the first picture."""
    data = jpeg(SMALL) + of_scans(PROGRESSIVE, 100)
    assert structure.read(data).scans == 1


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("rows", [0, 1])
def test_the_scans_of_usual_pictures_are_counted(subsampling: int, rows: int) -> None:
    image = photograph("coffee.png")
    options = {"subsampling": subsampling, "restart_marker_rows": rows}
    assert structure.read(jpeg(image, **options)).scans == 1
    assert structure.read(jpeg(image, progressive=True, **options)).scans == 10


def test_a_picture_that_waits_for_memory_holds_no_lock(tmp_path: Path) -> None:
    """Two pictures with too many scans do not wait for each other."""
    path = tmp_path / "0"
    path.write_bytes(of_scans(PROGRESSIVE, 300))
    ended = threading.Event()

    def load() -> None:
        with pytest.raises(picture.NotAPicture):
            picture.load(str(path), (320, 180), "contain")
        ended.set()

    with picture._one_large:
        thread = threading.Thread(target=load)
        thread.start()
        assert ended.wait(20)
    thread.join()


# --- what is left out -----------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if form == "GIF" else {"exif": exif}
    file = bytearray(encoded(SMALL, form, **options))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(file) - 1))
        file[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = structure.read(bytes(file))
    except structure.Refused:
        return
    assert 0 <= orientation(found.exif, found.xmp) <= 0xFFFF_FFFF


@given(st.binary(max_size=80), st.binary(max_size=60))
def test_any_exif_has_an_orientation(exif: bytes, xmp: bytes) -> None:
    for order in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        assert isinstance(orientation(order + exif, xmp), int)


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_the_one_that_pillow_reads(form: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if number < 9:
        exif[0x0112] = number
    xmp = b'<x tiff:Orientation="3"/>'
    options = {"exif": exif} if form == "PNG" else {"exif": exif, "xmp": xmp}
    file = encoded(SMALL, form, **options)
    found = structure.read(file)
    with Image.open(io.BytesIO(file)) as image:
        expected = image.getexif().get(0x0112, 1)
        left = image.info if form == "WEBP" else {}
        assert expected == orientation(
            found.exif or left.get("exif", b""), found.xmp or left.get("xmp", b"")
        )


def test_the_orientation_in_a_text_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    raw = exif.tobytes().removeprefix(b"Exif\0\0").hex().encode()
    magick = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  99\n" + raw + b"\n")
    xmp = b'<x tiff:Orientation="6"/>'
    plain = b"XML:com.adobe.xmp\0\0\0en\0x\0" + xmp
    packed = b"XML:com.adobe.xmp\0\1\0en\0x\0" + zlib.compress(xmp)
    for file, expected in (
        (png(chunk(b"zTXt", magick)), 8),
        (png(chunk(b"iTXt", plain)), 6),
        (png(chunk(b"iTXt", packed)), 6),
    ):
        found = structure.read(file)
        assert orientation(found.exif, found.xmp) == expected
        with Image.open(io.BytesIO(file)) as image:
            assert image.getexif().get(0x0112) == expected
