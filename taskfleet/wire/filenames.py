"""The names of the files of a task, relative to its folder: its inputs and its outputs. Owns which
names are taken, for the kind, the workers, and whoever downloads the files."""

from __future__ import annotations

NAME_MAX_BYTES = 700
"""Most bytes of the name of an input or an output. It is a part of an object's key, which has 1,024
bytes at most."""
COMPONENT_MAX_BYTES = 255
"""Most bytes between two slashes of a name: what Linux takes."""


def name_fault(name: str) -> str | None:
    """Returns why `name` cannot name a file in a task's folder, or None."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not text that UTF-8 can write"
    if not name:
        return "is empty"
    if size > NAME_MAX_BYTES:
        return f"has {size} bytes, over the cap of {NAME_MAX_BYTES}"
    if "\0" in name:
        return "has a NUL"
    if name.startswith("/"):
        return "is absolute; name files within the task's folder"
    components = name.split("/")
    if ".." in components:
        return "leads outside the task's folder"
    if "" in components or "." in components:
        return "has an empty component; write it without `//`, `./` and a slash at the end"
    if any(len(component.encode()) > COMPONENT_MAX_BYTES for component in components):
        return f"has a component of over {COMPONENT_MAX_BYTES} bytes"
    return None
