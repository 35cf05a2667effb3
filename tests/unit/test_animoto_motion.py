from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from animoto import caption, motion
from animoto.frame import BLACK, GREY, Frame

SIZE = (64, 36)


@given(st.integers(0, 500), st.floats(0, 1))
def test_the_view_stays_inside_the_picture_and_keeps_its_shape(index: int, elapsed: float) -> None:
    width, height = motion.oversized((1280, 720))
    left, top, right, bottom = motion.view(index, elapsed, (width, height))
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(width / height)
    assert right - left >= 1279


def test_the_view_moves_in_steps_of_less_than_a_pixel() -> None:
    size = motion.oversized((1280, 720))
    steps = [motion.view(1, n / 149, size) for n in range(150)]
    moves = [abs(b[0] - a[0]) for a, b in pairwise(steps)]
    assert 0 < min(moves) <= max(moves) < 1
    assert max(moves) - min(moves) < 1e-6


def shot(index: int, level: int) -> motion.Shot:
    return motion.Shot(index, Frame.plain(motion.oversized(SIZE), (level, 128, 128)), None, 7, 20)


def test_a_fade_goes_evenly_from_one_picture_to_the_next() -> None:
    frames = list(motion.slot_frames(shot(0, 20), shot(1, 180), 8, SIZE))
    levels = [frame.y.getpixel((30, 18)) for frame in frames]
    assert levels == [20] * 13 + [40, 60, 80, 100, 120, 140, 160]


def test_the_last_picture_does_not_fade() -> None:
    frames = list(motion.slot_frames(shot(0, 20), None, 8, SIZE))
    assert {frame.y.getpixel((30, 18)) for frame in frames} == {20}
    assert len(frames) == 20


def test_a_blank_text_makes_no_caption() -> None:
    assert caption.render("", (1280, 720)) is None
    assert caption.render("  \n ", (1280, 720)) is None


@pytest.mark.parametrize("size", [(1280, 720), (1080, 1920), (1080, 1080)])
@pytest.mark.parametrize(
    "text",
    ["Hi", "A longer caption " * 8, "x" * 200, "one\ntwo\nthree\nfour\nfive", "%{localtime}"],
)
def test_a_caption_is_visible_near_the_bottom_and_inside_the_frame(
    text: str, size: tuple[int, int]
) -> None:
    frame = Frame.plain(size, GREY)
    rendered = caption.render(text, size)
    assert rendered is not None
    rendered.draw(frame)
    light = np.asarray(frame.y)
    assert (light > 220).sum() > 50
    assert (light < 25).sum() > 50
    changed = np.argwhere(light != GREY[0])
    assert changed[:, 0].min() > size[1] * 0.4
    assert changed[:, 0].max() < size[1] * 0.98
    assert changed[:, 1].min() > size[0] * 0.03
    assert changed[:, 1].max() < size[0] * 0.97


def test_a_frame_is_yuv420p_of_the_right_length() -> None:
    assert Frame.plain((64, 36), BLACK).to_bytes() == bytes([16]) * 2304 + bytes([128]) * 1152


def test_the_poster_has_the_frames_colours(tmp_path) -> None:
    # Pure red in BT.601 video levels.
    path = tmp_path / "a.jpg"
    path.write_bytes(Frame.plain(SIZE, (81, 90, 240)).jpeg())
    with Image.open(path) as image:
        assert image.size == SIZE
        assert all(abs(a - b) < 6 for a, b in zip(image.getpixel((9, 9)), (255, 0, 0), strict=True))
