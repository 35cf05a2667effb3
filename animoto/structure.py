"""Reads the structure of a picture's file before Pillow does, and leaves out what a movie does not
show. Owns the limits on the parts of a file; not decoding (`animoto.picture`).

Pillow reads comments, profiles and EXIF data of any number and length before it tells a picture's
size, and stores some of them many times over. Here they cost one pass over the file. Pillow gets a
file of the same pixels without them.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

SEGMENTS_MAX = 1000
"""Most segments of a JPEG, and most extensions of a GIF before its first image. Long XMP data and
depth maps take about 400 segments in a file of 25 MB."""
TABLE_BYTES_MAX = 256 * 1024
"""Most bytes of the segments of a JPEG that the decoder needs, before the first scan. Four tables
of each kind take under 4 kB; the rest is for thumbnails in JFIF's segment."""
SCANS_MAX = 50
"""Most scans of a JPEG. Each one passes over all blocks of the picture, however few bytes it has.
Encoders write 1 to 5 (cameras, Photoshop), 10 (libjpeg) or up to about 25 (mozjpeg)."""
BLOCKS_MAX = 100_000
"""Most blocks of data in the extensions of a GIF before its first image: 25 MB of full blocks."""
CHUNKS_MAX = 25_000
"""Most chunks of a PNG: 25 MB in chunks of 1 kB; libpng writes chunks of 8 kB."""
_TEXT_BYTES_MAX = 1 << 20
"""Most bytes that a text of a PNG is unpacked to."""

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
"""A marker between the segments of a JPEG."""
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The marker that ends a scan. The bytes FF 00 and the restarts D0 to D7 belong to the scan."""
_SCAN, _END = 0xDA, 0xD9
_NEEDED = (*range(0xC0, 0xD0), *range(0xDB, 0xE0), 0xE0, 0xEE)
"""The markers that decoding depends on: frames, tables, restarts, JFIF's and Adobe's segments."""
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_TEXTS = {b"iTXt": b"XML:com.adobe.xmp", b"zTXt": b"Raw profile type exif"}
"""The keywords of the texts that may tell an orientation, by the kinds of their chunks."""
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


class Refused(Exception):
    """The file has too much of something or is broken; the message says what."""


@dataclass
class Structure:
    """What a picture's file holds.

    data: the file, without what is not needed.
    size: width and height that its head tells, if decoding would need memory before Pillow tells
        it; else None.
    scans: number of scans of a JPEG, else 1.
    exif: EXIF data, without the word "Exif" in front; empty if there is none.
    xmp: XMP data; empty if there is none. Of a WebP file, both are left to Pillow.
    """

    data: bytes
    size: tuple[int, int] | None = None
    scans: int = 1
    exif: bytes = b""
    xmp: bytes = b""


def read(data: bytes) -> Structure:
    """Returns the structure of a file; one of an unknown form is returned as it is. Raises
    Refused."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif(data)
    except (IndexError, struct.error) as error:
        raise Refused("the picture is broken: it ends in its head") from error
    if data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return Structure(data, (width, height))
    return Structure(data)


# --- JPEG -----------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Structure:
    found = Structure(b"")
    exif: list[bytes] = []
    kept = [data[:2]]
    at, kept_bytes = 2, 0
    for _ in range(SEGMENTS_MAX):
        marker = _MARKER.search(data, at)
        if marker is None or data[marker.start() + 1] == _END:
            raise Refused("the picture is broken: it has no scan")
        begin, at = marker.span()
        code = data[begin + 1]
        if code == _SCAN:
            break
        if code == 0x01 or 0xD0 <= code <= 0xD8:  # these have no length
            continue
        (length,) = struct.unpack_from(">H", data, at)
        at += length
        if length < 2 or at > len(data):
            raise Refused("the picture is broken: it ends in its head")
        if code in _NEEDED:
            kept.append(data[begin:at])
            kept_bytes += at - begin
        elif code == 0xE1 and data.startswith(b"Exif\0\0", begin + 4):
            exif.append(data[begin + 10 : at])
        elif code == 0xE1 and data.startswith(_XMP, begin + 4):
            found.xmp = data[begin + 4 + len(_XMP) : at]
    else:
        raise Refused(f"has more than {SEGMENTS_MAX} segments before its first scan")
    if kept_bytes > TABLE_BYTES_MAX:
        raise Refused(f"its tables are over the cap of {TABLE_BYTES_MAX} bytes")
    found.scans = _scans(data, begin)
    found.exif = b"".join(exif)
    found.data = b"".join([*kept, memoryview(data)[begin:]])
    return found


def _scans(data: bytes, at: int) -> int:
    """Returns the number of scans of the JPEG from `at` on. Counts as libjpeg reads; whatever
    follows the end of the picture, such as another picture, does not count."""
    scans = 0
    for _ in range(SEGMENTS_MAX):
        marker = _MARKER_IN_SCAN.search(data, at)
        if marker is None:
            return scans
        at = marker.end()
        code = data[at - 1]
        if code == _END:
            return scans
        if code < 0xC0:  # skipped by libjpeg while it looks for a restart
            continue
        scans += code == _SCAN
        if scans > SCANS_MAX:
            raise Refused(f"has more than {SCANS_MAX} scans")
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    raise Refused(f"has more than {SEGMENTS_MAX} segments between its scans")


# --- GIF ------------------------------------------------------------------------------------

_GIF_BLOCK = re.compile(rb"[!,;]")


def _gif(data: bytes) -> Structure:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    kept = [data[:at]]
    blocks = 0
    for _ in range(SEGMENTS_MAX):
        block = _GIF_BLOCK.search(data, at)
        if block is None or block.group() == b";":
            raise Refused("the picture is broken: it has no image")
        begin = block.start()
        if block.group() == b",":
            left, top, columns, rows = struct.unpack_from("<HHHH", data, begin + 1)
            kept.append(data[begin:])
            return Structure(b"".join(kept), (max(width, left + columns), max(height, top + rows)))
        at = begin + 2
        while data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > BLOCKS_MAX:
                raise Refused(f"has more than {BLOCKS_MAX} blocks before its first image")
        at += 1
        if data[begin + 1] == 0xF9:  # transparency
            kept.append(data[begin:at])
    raise Refused(f"has more than {SEGMENTS_MAX} extensions before its first image")


# --- PNG ------------------------------------------------------------------------------------


def _png(data: bytes) -> Structure:
    found = Structure(b"")
    kept = [data[:8]]
    texts: dict[bytes, bytes] = {}  # the first one of each keyword
    at = 8
    for _ in range(CHUNKS_MAX):
        if at + 8 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        begin, kind = at, data[at + 4 : at + 8]
        at += 12 + length
        if kind in _PNG_NEEDED:
            kept.append(data[begin:at])
            if kind == b"IEND":
                break
        elif kind == b"eXIf":
            found.exif = data[begin + 8 : at - 4]
        elif kind in _PNG_TEXTS:
            text = data[begin + 8 : at - 4]
            keyword = text.partition(b"\0")[0]
            if keyword == _PNG_TEXTS[kind] and keyword not in texts:
                texts[keyword] = text[len(keyword) + 1 :]
    else:
        raise Refused(f"has more than {CHUNKS_MAX} chunks")
    found.data = b"".join(kept)
    found.xmp = _xmp(texts.get(_PNG_TEXTS[b"iTXt"], b""))
    found.exif = found.exif or _exif_of_imagemagick(texts.get(_PNG_TEXTS[b"zTXt"], b""))
    return found


def _xmp(text: bytes) -> bytes:
    """Returns the XMP data in the text of a PNG: after a flag, a method and two names."""
    xmp = text[2:].split(b"\0", 2)[-1]
    return _unpacked(xmp) if text[:1] == b"\1" else xmp


def _exif_of_imagemagick(text: bytes) -> bytes:
    """Returns the EXIF data in the text of a PNG: packed, in hexadecimal digits below three lines;
    empty if there is none or it is broken."""
    try:
        return bytes.fromhex(_unpacked(text[1:]).split(b"\n", 3)[-1].decode("ascii"))
    except ValueError:
        return b""


def _unpacked(packed: bytes) -> bytes:
    """Returns unpacked text, cut off at a length that no honest text has; empty if it is broken."""
    try:
        return zlib.decompressobj().decompress(packed, _TEXT_BYTES_MAX)
    except zlib.error:
        return b""
