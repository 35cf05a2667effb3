"""The command line of the movie maker. Owns its options and output; not the format of the list
(`animoto.listing`) nor the params of a task (`animoto.spec`).

python animoto/submit.py images.txt                           make the movies, print their URLs
python animoto/submit.py images.txt --out movies --repeat 3   make each three times, download them
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    # When run as a file, Python searches for modules in this folder; they are one folder up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import os
import re
from typing import Any, TextIO, get_args

import click
import requests
from rich.console import Console
from rich.progress import TaskID

from animoto import spec
from animoto.listing import Entry, is_url, read
from taskfleet.batch import random_batch_id
from taskfleet.cli.command import INTERRUPTED, SOME_FAILED, OneLineErrors, complain
from taskfleet.client import (
    Client,
)
from taskfleet.client.progress import counting_bars
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.fetch.source import UPLOAD
from taskfleet.task import TaskStatus
from taskfleet.wire.http.results import ResultView

PROGRAM = "submit.py"
"""Name of the program in messages."""
POLL_S = 1.0
"""Longest wait between two looks at the movies' progress, in seconds."""
DOWNLOAD_TIMEOUT_S = 60
"""Longest wait of a download for the next byte, in seconds."""
_UNSENT_UPLOAD = UPLOAD + random_batch_id(bytes(16))
"""Stands for a file in params that are checked before it is uploaded; names no real upload."""
_IMAGE = re.compile(r"images\[(\d+)\]")
"""The name of a picture in the messages of `animoto.spec`."""


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice([str(value) for value in values])


@click.command(
    PROGRAM,
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("images", type=click.File(encoding="utf-8"))
@click.option(
    "--preset", type=_choice(spec.PRESETS), help="Frame size of the movie.  [default: 720p]"
)
@click.option("--fps", type=_choice((25, 30)), help="Frames per second.  [default: 25]")
@click.option(
    "--duration", type=float, help="Seconds per picture, including its fade.  [default: 2.4]"
)
@click.option(
    "--transition",
    type=_choice(get_args(spec.Transition)),
    help="From one picture to the next.  [default: crossfade]",
)
@click.option(
    "--fit",
    type=_choice(get_args(spec.Fit)),
    help="How a picture fills the frame.  [default: blur]",
)
@click.option(
    "--motion",
    type=_choice(get_args(spec.Motion)),
    help="Movement over each picture.  [default: none]",
)
@click.option(
    "--quality",
    type=_choice(get_args(spec.Quality)),
    help="Image quality; good takes longer.  [default: fast]",
)
@click.option(
    "--on-error",
    type=_choice(("skip", "fail", "placeholder")),
    help="What to do about a picture that cannot be used.  [default: skip]",
)
@click.option("--music", help="URL or file of music for every movie.")
@click.option("--fade-out", type=float, help="Seconds of the music's fade-out.  [default: 3]")
@click.option(
    "--fit-to-music", is_flag=True, help="Scale durations so the movie is as long as the music."
)
@click.option(
    "--repeat", type=click.IntRange(1, 10_000), default=1, help="Make each movie this many times."
)
@click.option(
    "--reuse", is_flag=True, help="Take movies that were made with --reuse of the same before."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Download the movies into this folder.",
)
@click.option("--name", help="Name of the batch.")
def main(
    images: TextIO,
    music: str | None,
    fade_out: float | None,
    fit_to_music: bool,
    repeat: int,
    reuse: bool,
    out: Path | None,
    name: str | None,
    **options: Any,
) -> int:
    """Make movies of the pictures in the list IMAGES, which has one URL or file per line.

    A line `---` begins the next movie. Options of a picture, duration=4 and caption=TEXT, follow it
    on its line, separated by tabs. At the end the URL of each movie is printed, one per line.
    """
    given = {option: value for option, value in options.items() if value is not None}
    if "fps" in given:
        given["fps"] = int(given["fps"])
    if music is None and (fade_out is not None or fit_to_music):
        raise click.UsageError("--fade-out and --fit-to-music need --music")
    movies = _movies(images)
    sound = _sound(music, fade_out, fit_to_music)
    tasks = [_params(movie, given, sound, {}) for movie in movies]  # checks all before sending any
    try:
        with Client.from_env() as client:
            uploaded = _upload(client, movies, music)
            if uploaded:
                tasks = [_params(movie, given, sound, uploaded) for movie in movies]
            batch = [{"kind": "animoto", "params": params} for params in tasks] * repeat
            accepted = client.submit(batch, name=name, reuse=reuse or None)
            rows = _follow(client, accepted.batch_id, len(batch), out)
    except ValueError as error:
        raise TaskfleetError(str(error)) from error
    for row in rows:
        if row.status is TaskStatus.SUCCEEDED:
            click.echo(row.result["url"])
    return SOME_FAILED if any(row.status is not TaskStatus.SUCCEEDED for row in rows) else 0


# --- the list ---------------------------------------------------------------------------------


def _movies(images: TextIO) -> list[list[Entry]]:
    """Reads the list. Raises TaskfleetError that names the file and the line at fault."""
    folder = Path(images.name).parent if images.name != "<stdin>" else Path()
    try:
        return read(images, folder)
    except InvalidTask as error:
        raise TaskfleetError(f"{images.name}, {error}") from error
    except UnicodeDecodeError as error:
        raise TaskfleetError(f"{images.name} is not UTF-8: {error}") from error


def _sound(music: str | None, fade_out: float | None, fit: bool) -> dict[str, Any] | None:
    """Returns the params' `music`; its `url` is the option's value, which may be a file."""
    if music is None:
        return None
    if not is_url(music) and not os.path.isfile(music):
        raise click.UsageError(f"--music {music!r:.200}: no such file, and it is not a URL")
    fade = {} if fade_out is None else {"fade_out": fade_out}
    return {"url": music, "fit_to_music": fit, **fade}


def _params(
    movie: list[Entry],
    options: dict[str, Any],
    sound: dict[str, Any] | None,
    uploaded: dict[Path, str],
) -> dict[str, Any]:
    """Returns the params of one movie's task, checked as the API checks them. A file that is not
    yet in `uploaded` gets a placeholder for its upload id. Raises TaskfleetError that names the
    line at fault."""

    def url_of(path: Path | None, source: str) -> str:
        return source if path is None else uploaded.get(path, _UNSENT_UPLOAD)

    images = [entry.image(url_of(entry.path, entry.source)) for entry in movie]
    params = {"images": images, **options}
    if sound is not None:
        source = sound["url"]
        path = None if is_url(source) else Path(source)
        params["music"] = {**sound, "url": url_of(path, source)}
    try:
        return spec.parse(params)
    except InvalidTask as error:
        image = _IMAGE.search(error.reason)
        line = f"line {movie[int(image[1])].line}: " if image else ""
        raise TaskfleetError(f"{line}{error.reason}") from error


def _upload(client: Client, movies: list[list[Entry]], music: str | None) -> dict[Path, str]:
    """Uploads each file once; returns the URL that stands for it in the params."""
    paths = dict.fromkeys(entry.path for movie in movies for entry in movie if entry.path)
    if music is not None and not is_url(music):
        paths[Path(music)] = None
    uploaded: dict[Path, str] = {}
    with counting_bars() as progress:
        bar = progress.add_task("uploading", total=len(paths), visible=bool(paths))
        for path in paths:
            uploaded[path] = UPLOAD + client.put(path)
            progress.advance(bar)
    return uploaded


# --- following --------------------------------------------------------------------------------


def _follow(client: Client, batch_id: str, movies: int, out: Path | None) -> list[ResultView]:
    """Waits until all movies have ended and returns their rows in order. Meanwhile shows progress
    bars, reports each movie that ends, and downloads it into `out`, if given."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    ended: dict[int, ResultView] = {}
    bars: dict[int, TaskID] = {}  # of the movies in the making, by index
    try:
        with counting_bars() as progress:
            overall = progress.add_task("movies", total=movies)
            while len(ended) < movies:
                client.status(batch_id, wait_s=POLL_S)
                for row in client.results(batch_id):
                    if row.index in ended:
                        continue
                    if row.status.final:
                        ended[row.index] = row
                        if row.index in bars:
                            progress.remove_task(bars.pop(row.index))
                        progress.advance(overall)
                        _report(progress.console, row)
                        if out is not None and row.status is TaskStatus.SUCCEEDED:
                            _download(row.result["url"], out / f"movie-{row.index + 1:03}.mp4")
                    elif row.progress is not None:
                        done, total = row.progress
                        if row.index not in bars:
                            bars[row.index] = progress.add_task(f"movie {row.index + 1}")
                        progress.update(bars[row.index], completed=done, total=total)
    except KeyboardInterrupt:
        complain(PROGRAM, f"no longer waiting, but the batch goes on: taskfleet status {batch_id}")
        raise click.exceptions.Exit(INTERRUPTED) from None
    return [ended[index] for index in sorted(ended)]


def _report(console: Console, row: ResultView) -> None:
    """Prints one line about a movie that has ended."""
    title = f"movie {row.index + 1}"
    if row.status is not TaskStatus.SUCCEEDED:
        complain(PROGRAM, f"{title}: {row.status.lower()}: {row.error}")
        return
    movie = row.result
    skipped = [picture["index"] + 1 for picture in movie["skipped"]]
    without = f", without pictures {skipped}" if skipped else ""
    made = f"made in {row.duration_s:.1f} s" if row.reused_from is None else "made before"
    console.print(
        f"{title}: {movie['pictures']} pictures, {movie['duration_s']:.1f} s, "
        f"{movie['bytes'] / 1e6:.1f} MB, {made}{without}",
        highlight=False,
        markup=False,
    )


def _download(url: str, path: Path) -> None:
    """Stores what `url` answers at `path`, completely or not at all. Raises TaskfleetError."""
    draft = path.with_suffix(".part")
    try:
        with requests.get(url, stream=True, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            answer.raise_for_status()
            with draft.open("wb") as file:
                for chunk in answer.iter_content(1 << 20):
                    file.write(chunk)
        draft.replace(path)
    except (requests.RequestException, OSError) as error:
        draft.unlink(missing_ok=True)
        raise TaskfleetError(f"{path} could not be downloaded: {type(error).__name__}") from error


if __name__ == "__main__":
    sys.path.append(os.getcwd())
    main(prog_name=PROGRAM)
