"""`infra/stack.yaml` as data: each of CloudFormation's short forms is its long form."""

from __future__ import annotations

import functools
from typing import Any

import yaml

from infra.stack import TEMPLATE


class _Loader(yaml.SafeLoader):
    """A loader of its own, so that the constructor below is nobody else's."""


def _long_form(loader: _Loader, suffix: str, node: Any) -> dict[str, Any]:
    make = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda node: loader.construct_sequence(node, deep=True),
        yaml.MappingNode: lambda node: loader.construct_mapping(node, deep=True),
    }[type(node)]
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": make(node)}


_Loader.add_multi_constructor("!", _long_form)


@functools.cache
def template() -> dict[str, Any]:
    """Returns the template."""
    parsed: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)
    return parsed


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Returns the resources of a type, by their names in the template."""
    return {n: r for n, r in template()["Resources"].items() if r["Type"] == kind}
