import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animoto import animoto
from animoto.spec import parse
from taskfleet.batch import random_batch_id
from taskfleet.errors import InvalidTask
from taskfleet.fetch.source import without_query
from taskfleet.registry import Registry

URL = "https://example.org/a.jpg"


def params(**values: Any) -> dict[str, Any]:
    return {"images": [URL], **values}


def test_every_default_is_written_out() -> None:
    assert parse({"images": [URL]}) == {
        "images": [URL],
        "preset": "720p",
        "fps": 25,
        "duration": 2.4,
        "transition": "crossfade",
        "fit": "blur",
        "motion": "none",
        "quality": "fast",
        "music": None,
        "on_error": "skip",
    }


def test_a_line_of_text_is_a_list_of_urls() -> None:
    assert parse(f"{URL}  {URL}") == parse({"images": [URL, URL]})


def test_a_picture_keeps_only_values_that_are_not_the_default() -> None:
    given_images = [{"url": URL}, {"url": URL, "duration": 4}, {"url": URL, "caption": "Hello"}]
    assert parse({"images": given_images})["images"] == [
        URL,
        {"url": URL, "duration": 4.0},
        {"url": URL, "caption": "Hello"},
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "needs"),
        ([URL], "needs"),
        ({}, "images"),
        ({"images": []}, "images"),
        ({"images": [URL] * 501}, "500"),
        ({"images": URL}, "images"),
        ({"images": [URL, 3]}, "images[1]"),
        ({"images": [URL, {"caption": "x"}]}, "images[1]"),
        ({"images": [{"url": URL, "size": 3}]}, "size"),
        (params(colour="red"), "colour"),
        (params(preset="4k"), "preset"),
        (params(fps=60), "fps"),
        (params(fps="25"), "fps"),
        (params(duration=0.1), "duration"),
        (params(duration=61), "duration"),
        (params(duration=True), "duration"),
        (params(duration=math.nan), "duration"),
        (params(duration=math.inf), "duration"),
        (params(transition="wipe"), "transition"),
        (params(fit="stretch"), "fit"),
        (params(motion="shake"), "motion"),
        (params(quality="best"), "quality"),
        (params(on_error="ignore"), "on_error"),
        (params(music="https://example.org/a.mp3"), "music"),
        (params(music={"url": "ftp://example.org/a.mp3"}), "music"),
        (params(music={"url": URL, "fade_out": -1}), "fade_out"),
        (params(music={"url": URL, "fade_out": math.nan}), "fade_out"),
        ({"images": [URL, {"url": URL, "caption": "x" * 201}]}, "images[1]"),
        ({"images": [URL, {"url": URL, "caption": "a\x00b"}]}, "images[1]"),
        ({"images": [URL] * 400, "duration": 10}, "3600"),
    ],
)
def test_invalid_params_are_rejected_by_name(raw: Any, message: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.jpg",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.org/a.jpg",
        "concat:a|b",
        "data:image/png;base64,AAAA",
        "http://",
        "http:///a.jpg",
        "http://user@example.org/a.jpg",
        "http://user:secret@example.org/a.jpg",
        "http://example.org/a b.jpg",
        "http://example.org/a\nb.jpg",
        "http://example.org\\@127.0.0.1/",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://[::1/",
        "http://bücher.example/a.jpg",
        "https://example.org/" + "a" * 4096,
    ],
)
def test_a_malformed_url_is_rejected_with_its_index(url: str) -> None:
    with pytest.raises(InvalidTask, match=r"images\[1\]"):
        parse({"images": [URL, url]})


@pytest.mark.parametrize("url", [URL, "HTTP://EXAMPLE.ORG", "http://[2001:db8::1]:8080/ä.jpg?x=1"])
def test_a_well_formed_url_is_kept_unchanged(url: str) -> None:
    assert parse({"images": [url]})["images"] == [url]


def test_an_upload_may_stand_in_the_place_of_a_url() -> None:
    url = "upload:" + random_batch_id(bytes(16))
    assert parse({"images": [url], "music": {"url": url}})["images"] == [url]


@pytest.mark.parametrize("upload_id", ["", "0", "../secret", "x" * 65])
def test_a_malformed_upload_id_is_rejected_with_its_index(upload_id: str) -> None:
    with pytest.raises(InvalidTask, match=r"images\[0\]: 'upload:.* is not the id"):
        parse({"images": [f"upload:{upload_id}"]})


def test_a_message_never_shows_a_query() -> None:
    with pytest.raises(InvalidTask) as caught:
        parse({"images": ["ftp://example.org/a.jpg?token=hush#frag"]})
    assert "hush" not in str(caught.value)
    assert without_query("https://a/b?token=hush") == "https://a/b"


movies = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.one_of(
                st.just(URL),
                st.fixed_dictionaries(
                    {"url": st.just(URL)},
                    optional={
                        "duration": st.floats(0.2, 5),
                        "caption": st.text(st.characters(min_codepoint=32), max_size=200),
                    },
                ),
            ),
            min_size=1,
            max_size=8,
        )
    },
    optional={
        "preset": st.sampled_from(["720p", "1080p", "square", "story"]),
        "fps": st.sampled_from([25, 30]),
        "duration": st.floats(0.2, 60),
        "music": st.none() | st.fixed_dictionaries({"url": st.just(URL)}),
    },
)


@given(movies)
def test_canonical_params_are_json_and_parse_to_themselves(raw: dict[str, Any]) -> None:
    canonical = parse(raw)
    assert parse(json.loads(json.dumps(canonical))) == canonical


def test_the_registry_finds_the_kind() -> None:
    registry = Registry.load(["animoto"])
    assert registry["animoto"] is animoto
    task = registry.parse({"kind": "animoto", "params": {"images": [URL]}}, 0)
    assert registry.revalidate(task) == task
    assert 0 < (animoto.expected_s(task.params) or 0) < 60


def test_more_work_is_expected_to_take_longer() -> None:
    def cost(**values: Any) -> float:
        return animoto.expected_s(parse(params(**values))) or 0

    assert cost() < cost(preset="1080p") < cost(motion="kenburns", preset="1080p")
    assert cost() < cost(images=[URL] * 60)


def test_checking_params_imports_no_heavy_module() -> None:
    heavy = ["PIL", "imageio_ffmpeg", "urllib3", "requests", "numpy", "boto3", "subprocess"]
    program = (
        "import sys; from taskfleet.registry import Registry\n"
        "r = Registry.load(['animoto'])\n"
        f"r.parse({{'kind': 'animoto', 'params': {{'images': ['{URL}']}}}}, 0)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
