"""Finds out how a picture must be turned. Owns the reading of EXIF's and XMP's orientation.

Pillow's reader reads every value of the EXIF data and warns of each odd one, of which one file may
have 65,000. This reader looks for one number.
"""

from __future__ import annotations

import re
import struct

UPRIGHT = 1
_TAG = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""EXIF's types of whole numbers, as `struct` writes them."""
_BYTE_ORDER = {b"II": "<", b"MM": ">"}
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes, xmp: bytes) -> int:
    """Returns the orientation that EXIF data tell, else that XMP data tell, else 1 (upright).
    Orientations of some meaning are 1 to 8."""
    found = _of_exif(exif)
    if found is None:
        match = _IN_XMP.search(xmp)
        found = int(match[1]) if match else UPRIGHT
    return found


def _of_exif(exif: bytes) -> int | None:
    """Returns the orientation in EXIF data; None if there is none or the data are broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDER.get(exif[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(f"{order}L", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(f"{order}HHL", exif, entry)
            if tag == _TAG and length == 1 and kind in _NUMBERS:
                return int(struct.unpack_from(order + _NUMBERS[kind], exif, entry + 8)[0])
    except struct.error:
        return None
    return None
