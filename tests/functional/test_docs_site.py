"""The built site: it builds without a warning and without the network, every link and every anchor
leads somewhere, no page loads anything from elsewhere, the reference has everything, and a real
browser has nothing to complain of."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from playwright.sync_api import Browser, expect

import taskfleet
from chalice_app import openapi
from docs import site as docs_site
from docs.ext import figures, screenshots
from taskfleet.cli.main import main as command_line
from tests.support.browser import PHONE, chromium, watched
from tests.support.pages import DOCS

FETCHED = {
    ("img", "src"),
    ("img", "srcset"),
    ("script", "src"),
    ("link", "href"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("object", "data"),
    ("use", "href"),
}
"""The attributes whose files a browser fetches by itself."""


@dataclass
class Page(HTMLParser):
    """What a page of the site has: anchors, links, what it loads, pictures without a text."""

    text: str
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loads += [given[name] for tag_, name in FETCHED if tag_ == tag and name in given]
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img" and not given.get("alt", "").strip():
            self.mute.append(given.get("src", ""))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once, without a way to the network."""
    folder = tmp_path_factory.mktemp("docs") / "html"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")  # a port where nothing listens
        code, said = docs_site.build(folder)
    assert code == 0, said
    assert said == ""
    return folder


@pytest.fixture(scope="module")
def html(built: Path) -> dict[Path, Page]:
    """Every page of the site by its path."""
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(built.rglob("*.html"))}


def test_every_page_of_the_sources_is_there(html: dict[Path, Page], built: Path) -> None:
    sources = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    sources = {path for path in sources if path.parts[0] != "_build"}
    assert len(sources) >= 45
    assert sources <= {path.relative_to(built) for path in html}


def test_every_link_and_every_anchor_leads_somewhere(html: dict[Path, Page]) -> None:
    broken = []
    for path, page in html.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
            elif parts.fragment and target.suffix == ".html":
                found = unquote(parts.fragment) in html[target].anchors
                broken += [] if found else [f"{path.name}: {link}"]
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(html: dict[Path, Page], built: Path) -> None:
    foreign = [
        f"{path.name}: {url}"
        for path, page in html.items()
        for url in page.loads
        if urlsplit(url).netloc or urlsplit(url).scheme not in ("", "data")
    ]
    for path in built.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        urls = re.findall(r"url\(['\"]?([^)'\"]+)|@import ['\"]([^'\"]+)", style)
        foreign += [f"{path.name}: {url}" for url in urls if re.match(r"(\w+:)?//", "".join(url))]
    assert foreign == []


def test_every_picture_has_a_text_for_who_cannot_see_it(html: dict[Path, Page]) -> None:
    assert {path.name: page.mute for path, page in html.items() if page.mute} == {}


def test_nothing_of_the_machine_that_built_it_is_in_it(built: Path) -> None:
    for path in [*built.rglob("*.html"), *built.rglob("*.js")]:
        assert str(DOCS.parent) not in path.read_text(encoding="utf-8"), path.name


# --- the reference is complete --------------------------------------------------------------


def commands(command: click.Command, path: str) -> Iterator[str]:
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            if not below.hidden:
                yield from commands(below, f"{path} {name}")


def test_every_command_has_its_section(html: dict[Path, Page], built: Path) -> None:
    page = html[built / "reference" / "cli.html"]
    found = list(commands(command_line, "taskfleet"))
    assert len(found) >= 15
    assert {name.replace(" ", "-") for name in found} <= page.anchors


def test_every_option_of_every_command_is_told(built: Path) -> None:
    text = (built / "reference" / "cli.html").read_text()
    for command in command_line.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in text, f"{command.name} {parameter.opts}"


def test_every_call_and_every_shape_of_the_api_has_its_section(built: Path) -> None:
    text = (built / "reference" / "api.html").read_text()
    spec = openapi.spec()
    for path, methods in spec["paths"].items():
        for method in methods:
            if method in ("get", "post", "delete"):
                assert f">{method.upper()} {path}<" in text
    assert len(spec["components"]["schemas"]) >= 20
    for name in spec["components"]["schemas"]:
        assert f">{name}<" in text


def test_every_public_name_of_the_library_is_described(html: dict[Path, Page], built: Path) -> None:
    described = html[built / "reference" / "python.html"].anchors
    for name in taskfleet.__all__:
        assert {f"taskfleet.{name}", f"taskfleet.errors.{name}"} & described, name


# --- the first page -------------------------------------------------------------------------


def test_the_first_page_shows_the_measured_figures(built: Path) -> None:
    text = (built / "index.html").read_text()
    found = figures.measured()
    for name in ("tasks_per_s", "cents_a_million", "efficiency"):
        assert found[name] in text
    assert "{{" not in text
    assert float(found["tasks_per_s"].replace(",", "")) == pytest.approx(
        float(figures.row("throughput", tasks="100000")["tasks/s"]), rel=0.05
    )


def test_screenshots_are_shown_once_they_are_there(tmp_path: Path) -> None:
    assert screenshots.first(tmp_path) == screenshots.gallery(tmp_path) == ""
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "dashboard-overview-light.png").touch()
    assert "dashboard-overview-light.png" in screenshots.first(tmp_path)
    for name in ("batches", "batch-phone", "batch-light"):
        (tmp_path / "img" / f"{name}.png").touch()
    shown = screenshots.first(tmp_path)
    assert "img/batch-light.png" in shown
    assert "only-light" not in shown
    assert "phone" not in shown
    (tmp_path / "img" / "batch-dark.png").touch()
    shown = screenshots.first(tmp_path)
    assert shown.index("only-light") < shown.index("only-dark")
    gallery = screenshots.gallery(tmp_path)
    assert gallery.index("batches.png") < gallery.index("batch-light.png")


# --- in a browser --------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url(built: Path) -> Iterator[str]:
    """The URL at which the built site is served."""
    handler = partial(Quiet, directory=str(built))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_every_page_fits_a_phone_and_is_quiet(
    html: dict[Path, Page], built: Path, url: str, browser: Browser
) -> None:
    names = [str(path.relative_to(built)) for path in html]
    assert len(names) >= 50
    wide = []
    with watched(browser, PHONE, color_scheme="dark") as one:
        for name in names:
            one.page.goto(f"{url}/{name}")
            if one.page.evaluate("document.documentElement.scrollWidth") > PHONE[0]:
                wide.append(name)
    assert wide == []


def test_the_drawings_follow_the_scheme_that_a_reader_chose(url: str, browser: Browser) -> None:
    with watched(browser, color_scheme="light") as one:
        one.page.goto(f"{url}/concepts/protocol.html")
        drawing = one.page.get_by_alt_text("A claim and its three outcomes")
        light = drawing.screenshot()
        one.page.evaluate("localStorage.setItem('theme', 'dark')")
        one.page.reload()
        assert drawing.screenshot() != light
        scheme = "document.body.computedStyleMap().get('color-scheme').toString()"
        assert one.page.evaluate(scheme) == "dark"


def test_the_search_finds(url: str, browser: Browser) -> None:
    with watched(browser) as one:
        one.page.goto(f"{url}/index.html")
        one.page.get_by_role("textbox", name="Search").fill("heartbeat")
        one.page.keyboard.press("Enter")
        expect(one.page.get_by_role("link", name="Execution").last).to_be_visible()
        expect(one.page.locator("#search-results li").first).to_be_visible()


# --- what fails the build -------------------------------------------------------------------

FAULTS = {
    "a page that is not there": "[somewhere](nowhere.md)",
    "a heading that is not there": "[somewhere](#no-heading)",
    "a picture that is not there": "![a picture](no-picture.png)",
    "a name that the library lacks": "```{eval-rst}\n.. autoclass:: taskfleet.NoSuchName\n```",
}


def test_faults_of_a_page_fail_the_build_and_are_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    configuration = "from docs.conf import *\nhtml_static_path = []\nhtml_css_files = []\n"
    (tmp_path / "in" / "conf.py").write_text(configuration)
    (tmp_path / "in" / "index.md").write_text("# A\n\n" + "\n\n".join(FAULTS.values()) + "\n")
    code, said = docs_site.build(tmp_path / "html", tmp_path / "in")
    assert code != 0
    for complaint in ("nowhere", "no-heading", "no-picture.png", "NoSuchName"):
        assert complaint in said
