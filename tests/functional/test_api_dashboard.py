"""The dashboard's page and its parts as the API serves them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chalice_app.dashboard import FOLDER, PAGE, files, origins, page, part, policy
from taskfleet.errors import NotFound
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.moto_aws import moto_account

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.js"))
SCRIPTS_MAX_BYTES = 150_000


@pytest.fixture
def api() -> Frontend:
    return Frontend()


def test_the_page_is_public_and_strict(api: Frontend) -> None:
    answer = api.call("GET", "/", as_client=None)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    rules = dict(
        rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_a_browser_that_has_the_page_gets_no_other(api: Frontend) -> None:
    tag = api.call("GET", "/", as_client=None).headers["ETag"]
    again = api.call("GET", "/", as_client=None, headers={"if-none-match": tag})
    assert (again.status_code, again.body) == (304, b"")
    other = api.call("GET", "/", as_client=None, headers={"if-none-match": '"another"'})
    assert other.status_code == 200


def test_every_part_that_the_page_names_is_served_and_kept_for_good(api: Frontend) -> None:
    html = api.call("GET", "/", as_client=None).body.decode()
    named = re.findall(r'(?:href|src)="([^"#]+)"', html)
    assert any(name.endswith("/app.js") for name in named)
    for name in named:
        answer = api.call("GET", name, as_client=None)
        assert answer.status_code == 200, name
        assert "immutable" in answer.headers["Cache-Control"], name
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_module_that_a_module_imports_is_there(api: Frontend, name: str) -> None:
    version = files().version
    script = api.call("GET", f"/ui/{version}/{name}", as_client=None)
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    folder = (FOLDER / name).parent
    for wanted in re.findall(r"""(?:from|import\() ?"([^"]+)\"""", script.body.decode()):
        assert wanted.startswith("."), f"{name} loads {wanted} from elsewhere"
        path = (folder / wanted).resolve().relative_to(FOLDER.resolve()).as_posix()
        assert api.call("GET", f"/ui/{version}/{path}", as_client=None).status_code == 200, wanted


def test_parts_of_another_release_are_served_and_not_kept() -> None:
    assert part("0" * 16, "app.js").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../dashboard.py",
        "lib/../../dashboard.py",
        "%2e%2e/dashboard.py",
        "/etc/passwd",
        "app.js/",
        "lib",
        "lib/none.js",
        PAGE,
        "app.js\0",
    ],
)
def test_nothing_but_parts_is_served(name: str) -> None:
    with pytest.raises(NotFound):
        part(files().version, name)


@pytest.mark.parametrize(
    "path", ["/ui/x/none.js", "/ui/x/..%2fdashboard.py", "/ui/x/lib/..%2f..%2fapp.js"]
)
def test_an_unknown_part_is_a_404(api: Frontend, path: str) -> None:
    assert api.call("GET", path, as_client=None).status_code == 404


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/", "/ui/"),
        ("/api/", "/api/ui/"),
        ("/api", "/api/ui/"),
        ("/a/b-c_d.e~f/", "/a/b-c_d.e~f/ui/"),
        ('/"><script>alert(1)</script>', "./ui/"),
        ("//evil.example", "./ui/"),
    ],
)
def test_parts_are_named_behind_the_stage(path: str, prefix: str) -> None:
    html = str(page(path, (), None).body)
    assert f'src="{prefix}{files().version}/app.js"' in html
    assert "evil" not in html
    assert "alert" not in html


def test_the_page_may_reach_the_bucket_and_nothing_else() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy(("https://b.example",)).split("; "))
    for name in ("img-src", "media-src", "connect-src"):
        sources = set(rules[name].split()) - {"'self'", "blob:", "data:"}
        assert sources == {"https://b.example"}
    assert "https://b.example" not in rules["script-src"] + rules["style-src"]


def test_the_origins_are_those_of_signed_addresses() -> None:
    from taskfleet.aws.session import Aws
    from taskfleet.clock import SystemClock

    with moto_account("eu-west-1"):
        settings = Settings(bucket="some-bucket", region="eu-west-1")
        store = Aws(settings, SystemClock()).store()
        assert origins(store) == ("https://some-bucket.s3.eu-west-1.amazonaws.com",)


def test_scripts_are_small() -> None:
    served = [files().content[name] for name in SCRIPTS]
    assert sum(len(script.encode()) for script in served) < SCRIPTS_MAX_BYTES


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_can_make_markup_of_a_text(name: str) -> None:
    script = (FOLDER / name).read_text()
    makers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    parsers = r"DOMParser|createContextualFragment|setHTML"
    assert re.findall(f"{makers}|{parsers}", script) == []


def test_the_files_are_not_read_at_import() -> None:
    """A function that collects responses never needs them."""
    code = (
        "import app, chalice_app.dashboard as d; assert d.files.cache_info().currsize == 0;"
        "d.files(); assert d.files.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
