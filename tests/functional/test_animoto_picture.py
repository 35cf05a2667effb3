"""Picture files of every kind, intact, odd and hostile, through the real decoder."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from animoto import picture
from animoto.frame import Frame
from tests.support.animoto import encoded, jpeg, photograph, plain, similarity

SIZE = (320, 180)


@pytest.fixture
def load(tmp_path):
    def load(data: bytes, size=SIZE, fit="contain") -> Frame:
        path = tmp_path / "0"
        path.write_bytes(data)
        frame = picture.load(str(path), size, fit)
        assert frame.size == size
        assert len(frame.to_bytes()) == size[0] * size[1] * 3 // 2
        return frame

    return load


def light(frame: Frame) -> np.ndarray:
    return np.asarray(frame.y)


def colour_at(frame: Frame, x: int, y: int) -> tuple[int, int, int]:
    return (
        frame.y.getpixel((x, y)),
        frame.u.getpixel((x // 2, y // 2)),
        frame.v.getpixel((x // 2, y // 2)),
    )


def expected_light(image: Image.Image, size=SIZE, fit="contain") -> np.ndarray:
    """Returns the expected Y plane, made by the plainest means: decode all pixels, then shrink."""
    if fit == "contain":
        placed = ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    else:
        placed = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    full = np.asarray(placed.convert("L"), float)
    return np.round(16 + full * 219 / 255).astype(np.uint8)


RED = (81, 90, 240)
"""Red as Y, U and V (BT.601, video range)."""


def close(got: tuple[int, int, int], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 3 for a, b in zip(got, wanted, strict=True))


# --- what a frame shows ---------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["contain", "cover"])
@pytest.mark.parametrize("size", [(1280, 720), (540, 960)])
@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "retina.jpg"])
def test_a_photograph_looks_like_one_shrunk_from_all_its_pixels(load, name, size, fit):
    image = photograph(name)
    got = light(load(jpeg(image, quality=98), size, fit))
    assert similarity(got, expected_light(image, size, fit)) > 0.97


@pytest.mark.parametrize(
    ("level", "wanted"), [((0, 0, 0), (16, 128, 128)), ((255, 255, 255), (235, 128, 128))]
)
def test_full_range_becomes_video_range(load, level, wanted):
    assert close(colour_at(load(plain(level)), 100, 100), wanted)


def test_colours_are_bt601(load):
    assert close(colour_at(load(plain((255, 0, 0))), 100, 100), RED)


def test_contain_leaves_black_bars_and_cover_none(load):
    tall = plain("white", (100, 200))
    assert colour_at(load(tall, fit="contain"), 10, 90) == (16, 128, 128)
    assert close(colour_at(load(tall, fit="contain"), 160, 90), (235, 128, 128))
    assert close(colour_at(load(tall, fit="cover"), 10, 90), (235, 128, 128))


def test_blur_fills_the_bars_with_a_darker_picture_out_of_focus(load):
    stripes = Image.new("RGB", (90, 180), "white")
    for row in range(0, 180, 4):
        stripes.paste("black", (0, row, 90, row + 2))
    frame = load(encoded(stripes, "PNG"), fit="blur")
    bar, middle = light(frame)[:, 20], light(frame)[:, 160]
    assert int(middle.max()) - int(middle.min()) > 100
    assert int(bar.max()) - int(bar.min()) < 20
    assert 40 < bar.mean() < 100


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(load, orientation):
    upright = Image.new("RGB", (160, 90), "black")
    upright.paste("white", (0, 0, 40, 22))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = upright
    if orientation > 1:
        turned = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = load(jpeg(turned, exif=exif))
    assert light(frame)[10, 10] > 200
    assert max(light(frame)[10, -10], light(frame)[-10, 10], light(frame)[-10, -10]) < 40


# --- every kind of file ---------------------------------------------------------------------

RED_IMAGE = Image.new("RGB", (64, 36), "red")


def sixteen_bit() -> bytes:
    ramp = np.linspace(0, 65535, 64 * 36).reshape(36, 64).astype(np.uint16)
    return encoded(Image.fromarray(ramp), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(jpeg(RED_IMAGE), id="jpeg"),
        pytest.param(jpeg(RED_IMAGE, progressive=True), id="progressive"),
        pytest.param(jpeg(RED_IMAGE, keep_rgb=True), id="rgb jpeg"),
        pytest.param(jpeg(RED_IMAGE, subsampling=0), id="444"),
        pytest.param(encoded(RED_IMAGE, "PNG"), id="png"),
        pytest.param(encoded(RED_IMAGE.convert("P"), "PNG"), id="palette"),
        pytest.param(encoded(RED_IMAGE.convert("RGBA"), "PNG"), id="alpha"),
        pytest.param(encoded(RED_IMAGE, "WEBP", quality=100), id="webp"),
        pytest.param(encoded(RED_IMAGE, "GIF"), id="gif"),
        pytest.param(
            encoded(
                RED_IMAGE,
                "GIF",
                save_all=True,
                append_images=[Image.new("RGB", (64, 36), "blue")],
            ),
            id="animated gif",
        ),
        pytest.param(
            encoded(
                RED_IMAGE,
                "WEBP",
                save_all=True,
                quality=100,
                append_images=[Image.new("RGB", (64, 36), "blue")],
            ),
            id="animated webp",
        ),
        pytest.param(jpeg(RED_IMAGE.resize((4000, 2250))), id="draft"),
    ],
)
def test_every_kind_of_file_shows_its_first_picture(load, data):
    assert close(colour_at(load(data), 160, 90), RED)


def test_cmyk_is_understood(load):
    cmyk = Image.new("CMYK", (64, 36), (0, 255, 255, 0))
    y, _, v = colour_at(load(jpeg(cmyk)), 160, 90)
    assert 60 < y < 110
    assert v > 200


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_is_understood(load, mode):
    data = encoded(Image.new("L", (64, 36), 255).convert(mode), "PNG")
    assert close(colour_at(load(data), 160, 90), (235, 128, 128))


def test_sixteen_bits_are_scaled_not_clipped(load):
    got = light(load(sixteen_bit()))
    assert got[5].mean() < 60
    assert 100 < got[90].mean() < 150
    assert got[-5].mean() > 200


def test_transparency_lies_over_white(load):
    clear = Image.new("RGBA", (64, 36), (0, 0, 0, 0))
    assert close(colour_at(load(encoded(clear, "PNG")), 160, 90), (235, 128, 128))
    palette = Image.new("P", (64, 36), 0)
    data = encoded(palette, "PNG", transparency=0)
    assert close(colour_at(load(data), 160, 90), (235, 128, 128))


@pytest.mark.parametrize("fit", ["blur", "contain", "cover"])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (3, 1), (20000, 10), (10, 20000), (321, 179), (319, 181)]
)
def test_odd_shapes_fit(load, size, fit):
    frame = load(encoded(Image.new("L", size, 255), "PNG"), fit=fit)
    assert light(frame)[86:94, 156:164].max() > 230


# --- files that are no pictures -------------------------------------------------------------


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff() -> bytes:
    return encoded(RED_IMAGE, "TIFF")


SVG = b"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"
xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="file:///etc/passwd"/></svg>"""
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"<!DOCTYPE html><html>404</html>", "not a picture", id="html"),
        pytest.param(SVG, "not a picture", id="svg"),
        pytest.param(CONCAT, "not a picture", id="ffconcat"),
        pytest.param(EPS, "not a picture", id="eps"),
        pytest.param(b"#EXTM3U\n/etc/passwd", "not a picture", id="playlist"),
        pytest.param(tiff(), "not a picture", id="tiff"),
        pytest.param(encoded(RED_IMAGE, "BMP"), "not a picture", id="bmp"),
        pytest.param(encoded(RED_IMAGE, "ICO"), "not a picture", id="ico"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(100), "picture", id="jpeg header"),
        pytest.param(jpeg(photograph("coffee.png"))[:9000], "broken", id="truncated jpeg"),
        pytest.param(encoded(photograph("coffee.png"), "PNG")[:9000], "broken", id="truncated png"),
        pytest.param(png(9000, 9000), "over the cap", id="81 MP"),
        pytest.param(png(12000, 12000), "pixels", id="144 MP"),
        pytest.param(png(60000, 60000), "pixels", id="3.6 GP"),
        pytest.param(png(6100, 6000), "over the cap of 36", id="png over its cap"),
        pytest.param(png(0, 0), "picture", id="no pixels"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", id="heic"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_with_a_reason(load, data, said):
    with pytest.raises(picture.NotAPicture, match=said):
        load(data)


def test_a_large_progressive_jpeg_is_refused_before_it_is_decoded(load):
    out = io.BytesIO()
    Image.new("L", (6100, 6000)).save(out, "JPEG", progressive=True)
    with pytest.raises(picture.NotAPicture, match="over the cap of 36"):
        load(out.getvalue())


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_either_refused_or_shown(load, seed):
    """A damaged file raises no exception but NotAPicture."""
    rng = np.random.default_rng(seed)
    image = photograph("coffee.png").resize((200, 150))
    form = ("JPEG", "PNG", "WEBP", "GIF")[seed % 4]
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}
    data = bytearray(encoded(image, form, **options))
    for at in rng.integers(0, min(len(data), 2000 if seed % 3 else len(data)), 12):
        data[at] = rng.integers(0, 256)
    with contextlib.suppress(picture.NotAPicture):
        load(bytes(data))
