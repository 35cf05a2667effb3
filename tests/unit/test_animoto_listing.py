from pathlib import Path

import pytest

from animoto.listing import read
from taskfleet.errors import InvalidTask


def listed(text, folder=Path()):
    return read(text.splitlines(keepends=True), folder)


def test_a_list_of_urls_is_one_movie_in_their_order():
    (movie,) = listed("\ufeff# holiday\nhttps://a/1.jpg\n\n  https://a/2.jpg  \n")
    assert [entry.image(entry.source) for entry in movie] == ["https://a/1.jpg", "https://a/2.jpg"]
    assert [entry.line for entry in movie] == [2, 4]


def test_durations_and_captions_follow_the_picture_after_tabs():
    (movie,) = listed("https://a/1.jpg\tduration=4\tcaption=On the\\nbeach = good\n")
    assert movie[0].image("u") == {"url": "u", "duration": 4.0, "caption": "On the\nbeach = good"}


def test_three_dashes_begin_the_next_movie_and_empty_movies_are_dropped():
    movies = listed("---\nhttps://a/1.jpg\n---\n---\nhttps://a/2.jpg\nhttps://a/3.jpg\n---\n")
    assert [len(movie) for movie in movies] == [1, 2]


def test_paths_are_relative_to_the_list(tmp_path):
    (tmp_path / "my pictures").mkdir()
    picture = tmp_path / "my pictures" / "one.jpg"
    picture.write_bytes(b"x")
    (movie,) = listed("my pictures/one.jpg\tcaption=Me\n", tmp_path)
    assert movie[0].path == picture
    assert movie[0].image("upload:1") == {"url": "upload:1", "caption": "Me"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "names no picture"),
        ("# only\n---\n", "names no picture"),
        ("https://a/1.jpg\nmissing.jpg\n", "line 2: no file 'missing.jpg', and it is not a URL"),
        ("~nobody-has-this/1.jpg\n", "line 1: no file '~nobody-has-this/1.jpg', and it is not"),
        ("x" * 5_000, "line 1: no file 'xxx.{100,220}xxx, and it is not a URL"),
        ("https://a/1.jpg\tduration=long\n", "line 1: duration='long' is not a number"),
        ("https://a/1.jpg\tcolour=red\n", "line 1: 'colour=red' is neither"),
        ("https://a/1.jpg\tduration=1\tduration=2\n", "line 1: duration is given twice"),
        ("\n\tduration=1\n", "line 2: begins with a tab"),
    ],
)
def test_an_error_names_its_line(text, fault):
    with pytest.raises(InvalidTask, match=fault):
        listed(text)
