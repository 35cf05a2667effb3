"""What `chalice package` would hand to Lambda: packaged for real, and run from the zip alone."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalice_app.events import TICK_S

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chalice_app", "taskfleet", "animoto")
SHIPPED_BY_LAMBDA = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
CLIENT_ONLY = {"click", "rich", "requests"}
"""Libraries of the command line and the client, which travel with the zip but never run in it."""
ZIP_MAX_BYTES = 5_000_000
CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"


@dataclass
class Package:
    template: dict
    zip_bytes: int
    names: set
    unzipped: Path
    lambda_libraries: Path
    project: Path

    def functions(self):
        """Properties of each Lambda function, by its name in Chalice."""
        found = (r for r in self.template["Resources"].values() if "Function" in r["Type"])
        handlers = {r["Properties"]["Handler"]: r["Properties"] for r in found}
        return {name.removeprefix("app."): props for name, props in handlers.items()}

    def actions(self, name):
        """What the role of a function may do: action -> resources."""
        role = self.functions()[name]["Role"]["Fn::GetAtt"][0]
        (policy,) = self.template["Resources"][role]["Properties"]["Policies"]
        return {
            action: statement["Resource"]
            for statement in policy["PolicyDocument"]["Statement"]
            for action in statement["Action"]
        }

    def run(self, code, **environ):
        """JSON that `code` prints, run with nothing but the zip and what Lambda ships."""
        path = [str(self.unzipped), str(self.lambda_libraries)]
        script = f"import sys\nsys.path[:0] = {path!r}\nimport json\n{code}"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script],
            env={"AWS_DEFAULT_REGION": "us-east-1", **environ},
            cwd=self.unzipped,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def run_chalice(project, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", CHALICE, *arguments],
        cwd=project,
        env={
            **os.environ,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": "",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def source_modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    project = folder / "project"
    project.mkdir()
    # A copy, so that neither Chalice's cache nor compiled files of the checkout get in.
    for name in (".chalice", "vendor", *PACKAGES):
        shutil.copytree(
            ROOT / name,
            project / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "deploy*"),
        )
    for name in ("app.py", "requirements.txt"):
        shutil.copy(ROOT / name, project / name)
    run_chalice(project, "package", "--stage", "dev", "out")
    archive = project / "out" / "deployment.zip"
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder / "unzipped")
        names = set(zipped.namelist())
    libraries = folder / "libraries"
    libraries.mkdir()
    for name in SHIPPED_BY_LAMBDA:
        origin = Path(importlib.util.find_spec(name).origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (libraries / source.name).symlink_to(source)
    return Package(
        template=json.loads((project / "out" / "sam.json").read_text()),
        zip_bytes=archive.stat().st_size,
        names=names,
        unzipped=folder / "unzipped",
        lambda_libraries=libraries,
        project=project,
    )


def test_functions_on_arm64_get_libraries_for_it(package):
    """`make deploy` chooses arm64 unless told otherwise; it costs a fifth less."""
    config = package.project / ".chalice" / "config.json"
    before = config.read_text()
    stages = json.loads(before)
    stages["stages"]["dev"]["lambda_architecture"] = "arm64"
    config.write_text(json.dumps(stages))
    run_chalice(package.project, "package", "--stage", "dev", "arm64")
    config.write_text(before)
    template = json.loads((package.project / "arm64" / "sam.json").read_text())
    functions = [r for r in template["Resources"].values() if "Function" in r["Type"]]
    assert {tuple(one["Properties"]["Architectures"]) for one in functions} == {("arm64",)}
    with zipfile.ZipFile(package.project / "arm64" / "deployment.zip") as zipped:
        compiled = [name for name in zipped.namelist() if name.endswith(".so")]
    assert compiled
    assert all("aarch64" in name for name in compiled)


def test_every_module_is_in_the_zip(package):
    missing = {str(path) for path in source_modules()} - package.names
    assert not missing


def test_the_dashboard_is_in_the_zip_and_served_from_it(package):
    parts = {str(p.relative_to(ROOT)) for p in (ROOT / "chalice_app" / "ui").rglob("*.*")}
    assert "chalice_app/ui/lib/dom.js" in parts
    assert parts <= package.names
    answer = package.run(
        "from chalice_app.dashboard import files, page, part\n"
        "answers = [page('/api/', (), None), part(files().version, 'lib/dom.js')]\n"
        "print(json.dumps([[one.status_code, one.headers['Content-Type']] for one in answers]))"
    )
    kinds = ["text/html; charset=utf-8", "text/javascript; charset=utf-8"]
    assert answer == [[200, kind] for kind in kinds]


def test_it_is_small_and_holds_no_compiled_leftovers(package):
    assert package.zip_bytes < ZIP_MAX_BYTES
    assert not [name for name in package.names if name.endswith(".pyc")]


def test_binaries_are_built_for_lambda(package):
    (wheel,) = package.unzipped.glob("msgspec-*.dist-info/WHEEL")
    assert "manylinux" in wheel.read_text()


def test_every_module_of_the_api_and_the_core_imports_from_the_zip(package):
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in source_modules()
        if path.name != "__main__.py" and path.parts[0] != "animoto"
    ]
    missing = package.run(
        "import importlib\n"
        "missing = {}\n"
        f"for name in {modules!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        missing[name] = error.name\n"
        "print(json.dumps(missing))"
    )
    assert set(missing.values()) <= CLIENT_ONLY, missing
    assert not [name for name in missing if name.startswith(("chalice_app", "taskfleet.aws"))]


def test_every_handler_resolves(package):
    handlers = {props["Handler"] for props in package.functions().values()}
    names = ("app", "authorize", "collect_responses", "expand_upload", "tick")
    assert handlers == {f"app.{name}" for name in names}
    found = package.run(
        "import importlib\n"
        f"for handler in {sorted(handlers)!r}:\n"
        "    module, name = handler.rsplit('.', 1)\n"
        "    assert callable(getattr(importlib.import_module(module), name)), handler\n"
        "print(json.dumps(importlib.import_module('app').__file__))"
    )
    assert found == str(package.unzipped / "app.py")


def test_the_packaged_api_connects_with_its_stages_settings_and_answers(package):
    environ = package.functions()["app"]["Environment"]["Variables"]
    answer = package.run(
        "import app\n"
        "kinds = app.services().results._registry.names\n"
        "event = {'requestContext': {'httpMethod': 'GET', 'resourcePath': '/health'},"
        " 'headers': {}, 'multiValueQueryStringParameters': None, 'pathParameters': {},"
        " 'stageVariables': None, 'body': None}\n"
        "print(json.dumps([kinds, app.app(event, None)]))",
        **{**environ, "TASKFLEET_BUCKET": "some-bucket"},
    )
    assert answer[0] == ["animoto", "sleep"]
    assert answer[1]["statusCode"] == 200


def test_a_missing_setting_is_told_by_name(package):
    environ = package.functions()["app"]["Environment"]["Variables"]
    told = package.run(
        "import app\n"
        "try:\n"
        "    app.services()\n"
        "except Exception as error:\n"
        "    print(json.dumps(str(error)))",
        **{**environ, "TASKFLEET_BUCKET": "", "TASKFLEET_TOKEN_SECRET_SSM": ""},
    )
    assert "TASKFLEET_BUCKET" in told
    assert "TASKFLEET_TOKEN_SECRET" in told


@pytest.mark.parametrize(
    ("name", "queue"),
    [("collect_responses", "Processed_Task"), ("expand_upload", "Upload_to_expand")],
)
def test_each_queue_handler_reads_its_queue(package, name, queue):
    (event,) = package.functions()[name]["Events"].values()
    assert event["Type"] == "SQS"
    assert event["Properties"]["Queue"]["Fn::Sub"].endswith(f":{queue}")


def test_the_tick_comes_every_minute(package):
    tick = package.functions()["tick"]
    (event,) = tick["Events"].values()
    assert event["Properties"]["Schedule"] == "rate(1 minute)"


def test_no_function_outlasts_api_gateway_but_the_tick_and_the_one_that_reads_files(package):
    timeouts = {name: props["Timeout"] for name, props in package.functions().items()}
    assert TICK_S + 10 < timeouts.pop("tick") < 120
    # Lambda refuses a queue whose visibility is shorter than the time-out of its function.
    assert 60 <= timeouts.pop("expand_upload") < visibility_s("UploadQueue")
    assert timeouts["collect_responses"] < visibility_s("ResponseQueue")
    assert all(timeout <= 29 for timeout in timeouts.values())


def visibility_s(resource):
    stack = (ROOT / "infra" / "stack.yaml").read_text()
    return int(re.search(rf"  {resource}:\n.*?VisibilityTimeout: (\d+)", stack, re.DOTALL)[1])


def test_the_api_is_regional(package):
    (api,) = (r for r in package.template["Resources"].values() if r["Type"].endswith("::Api"))
    assert api["Properties"]["EndpointConfiguration"] == "REGIONAL"


@pytest.mark.parametrize("name", ["app", "authorize", "collect_responses", "expand_upload", "tick"])
def test_each_function_has_a_role_of_its_own_without_wildcards(package, name):
    roles = [props["Role"]["Fn::GetAtt"][0] for props in package.functions().values()]
    assert len(set(roles)) == len(roles)
    for action, resources in package.actions(name).items():
        assert "*" not in action
        if action != "ec2:DescribeInstances":  # which EC2 grants for all or for none
            assert "*" not in resources
