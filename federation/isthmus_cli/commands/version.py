"""`isthmus version`: our version and those of the real parts."""

import platform
from importlib import metadata

import click

from isthmus_cli.output import output_option, show


@click.command()
@output_option
def version(output: str) -> None:
    """Print the versions of Isthmus and of the parts that it is made of."""
    values = {"isthmus": metadata.version("isthmus"), "python": platform.python_version()}
    for package in ("grpcio", "cryptography", "aiohttp"):
        values[package] = metadata.version(package)
    for name in ("envoy", "etcd"):
        values[name] = _version_of(name) or "not found"
    show(values, output, lambda: "\n".join(f"{name:<14}{value}" for name, value in values.items()))


def _version_of(part: str) -> str:
    from isthmus_cli.parts import find_part, part_version

    path = find_part(part)
    return part_version(path) if path else ""
