"""Builds `docs/settings.md` from `taskfleet.settings.Settings` and the sources that read it.

Python drops the docstring of an attribute, so descriptions are read from the source text. Owns the
page; `docs.generate` writes it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from taskfleet import settings
from taskfleet.client import endpoint
from taskfleet.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("taskfleet", "chalice_app", "ec2_worker", "animoto", "localcloud", "infra")
HOLDERS = {"settings", "_settings", "conf", "_conf", "names"}
"""The names of variables and attributes that hold a `Settings` object."""

INTRODUCTION = """\
# Settings

Every process of Taskfleet reads its settings from environment variables once, when it starts, and
checks them together: it refuses to start, and lists every fault, if a value is malformed or out of
range. `taskfleet/settings.py` defines them. This page is generated from it by `make docs`.

How a variable reaches a process:

- Functions on AWS: `make deploy STAGE=dev ARGS="--set TASKFLEET_MAX_CAPACITY=3"`, or the stage's
  `environment_variables` in `.chalice/config.json`.
- Workers on AWS: `make deploy STAGE=dev ARGS="--set WorkerSettings=TASKFLEET_DRAIN_TIMEOUT_S=60"`.
  `TASKFLEET_KINDS`, `TASKFLEET_SLOTS` and `TASKFLEET_IDLE_S` reach functions and workers alike.
- The local cloud: the environment of `make up`. It overrides some defaults, so that it stops
  quickly (`DEFAULTS` in `localcloud/cloud.py`), and sets what only it knows, such as the bucket.

A list is words separated by commas. `1` and `true` mean yes, `0` and `false` mean no. The default
stands after the semicolon. "Read by" names the packages whose code uses the value.

boto3 reads credentials, profiles and endpoints from its own variables, such as `AWS_PROFILE` and
`AWS_ENDPOINT_URL`. ffmpeg is found by `IMAGEIO_FFMPEG_EXE`, if that is set.
"""
CLIENT = {
    endpoint.URL: "The URL of the API. `make deploy` prints it; the local cloud writes it to "
    "`.local/env`. Set it together with the token: neither is ever combined with one from "
    "`.local/env`.",
    endpoint.TOKEN: "The bearer token that names the client. `make deploy` prints one, and "
    "`taskfleet token` makes one from the secret.",
}
"""The client's variables, which are no fields of `Settings`, and their descriptions."""
_HEAD = "| Variable | Value; default | Meaning |\n|---|---|---|\n"


def page() -> str:
    """The text of `docs/settings.md`."""
    described = descriptions(inspect.getsource(settings), "Settings")
    readers = used_by()
    rows = (row(Settings, name, described, readers) for name in Settings.__struct_fields__)
    client = (
        f"| `{name}` | text; none | {meaning} *Read by* `taskfleet.client`. |\n"
        for name, meaning in CLIENT.items()
    )
    return "".join(
        [
            INTRODUCTION,
            "\n## API, workers and provisioner\n\n",
            _HEAD,
            *rows,
            "\n## Client library and command line\n\nBoth stand in `.local/env` while a local "
            "cloud runs; the client reads that file when\nneither variable is set.\n\n",
            _HEAD,
            *client,
        ]
    )


def row(
    struct: type[msgspec.Struct],
    name: str,
    described: Mapping[str, str],
    readers: Mapping[str, Iterable[str]],
) -> str:
    """The table's row of one field. `described` has its description, `readers` the packages that
    read it."""
    schema = msgspec.json.schema(struct)["$defs"][struct.__name__]["properties"][name]
    default = schema.get("default")
    if "anyOf" in schema:  # The value may be unset.
        (schema,) = (option for option in schema["anyOf"] if option != {"type": "null"})
    bounds = _range(schema)
    value = _type(schema) if bounds == "any" else f"{_type(schema)}, {bounds}"
    packages = ", ".join(f"`{reader}`" for reader in sorted(readers[name]))
    cells = [
        f"`{PREFIX}{name.upper()}`",
        f"{value}; {_default(default)}",
        f"{described[name]} *Read by* {packages}.",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "choice"
    names = {
        "array": "list",
        "boolean": "yes or no",
        "integer": "whole number",
        "number": "number",
        "string": "text",
    }
    return names[schema["type"]]


def _range(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    if schema["type"] == "boolean":
        return "`0`, `1`"
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if high is not None:
        return f"over {above:,}, to {high:,}" if low is None else f"{low:,} to {high:,}"
    if low is not None:
        return f"{low:,} or more"
    return "any" if above is None else f"over {above:,}"


def _default(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"


def descriptions(source: str, struct: str) -> dict[str, str]:
    """The docstring of each field of a class, on one line. Raises ValueError for a field without
    one."""
    (body,) = (
        node.body
        for node in ast.parse(textwrap.dedent(source)).body
        if isinstance(node, ast.ClassDef) and node.name == struct
    )
    texts: dict[str, str] = {}
    for field, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                texts[field.target.id] = " ".join(text.split())
            case _:
                raise ValueError(f"{struct}.{field.target.id} has no docstring below it")
    return texts


@functools.cache
def used_by() -> dict[str, set[str]]:
    """The packages that read each field of `Settings`, directly or through a property."""
    fields = set(Settings.__struct_fields__)
    through = _properties(inspect.getsource(settings))
    readers: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path == Path(settings.__file__):
                continue
            for name in _attributes_read(ast.parse(path.read_text(encoding="utf-8"))):
                for field in fields & ({name} | through.get(name, set())):
                    readers[field].add(_room(path))
    return readers


def _attributes_read(tree: ast.AST) -> Iterator[str]:
    """Yields the attributes that a module reads from a variable in `HOLDERS` or from `load()`."""
    holders = HOLDERS | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_load(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=holder), attr=name) if holder in holders:
                yield name
            case ast.Attribute(value=ast.Attribute(attr=holder), attr=name) if holder in HOLDERS:
                yield name
            case ast.Attribute(value=value, attr=name) if _is_load(value):
                yield name


def _is_load(node: ast.AST) -> bool:
    """Returns whether a node is a call of `taskfleet.settings.load`."""
    match node:
        case ast.Call(func=ast.Name(id="load")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="settings"), attr="load")):
            return True
    return False


def _properties(source: str) -> dict[str, set[str]]:
    """The fields that each property of `Settings` reads, directly or through other properties."""
    direct = {
        node.name: {
            inner.attr
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute)
            and isinstance(inner.value, ast.Name)
            and inner.value.id == "self"
        }
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }

    def behind(name: str) -> set[str]:
        return {name}.union(*(behind(other) for other in direct.get(name, ())))

    return {name: behind(name) for name in direct}


def _room(path: Path) -> str:
    """The package of a module; within `taskfleet`, the room or the module itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "taskfleet" else parts[0]
