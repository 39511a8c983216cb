"""`isthmus export` and `isthmus unexport`: write or remove a ServiceExport beside a cluster's services."""

from collections.abc import Iterator
from pathlib import Path

import click

from isthmus_cli.home import cluster_folder, find_home, home_option
from isthmus_cli.proposals import home_of, propose_joined, proposing
from isthmus_core.dns_mode import ANNOTATION, DnsMode
from isthmus_core.errors import InvalidInput
from isthmus_core.names import ServiceName
from isthmus_kit.files import unwritable, write_file

_DOCUMENT = """\
# Written by 'isthmus export'; 'isthmus unexport {service}' removes it.
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata:
  namespace: {namespace}
  name: {name}
"""
# Only what differs from the default is said: exports of one service with other annotations are in conflict (KEP-1645).
_SPEC = f"""\
spec:
  exportedAnnotations: {{{{{ANNOTATION}: {{dns}}}}}}
"""

_services_option = click.option(
    "--services",
    envvar="ISTHMUS_GATEWAY_SERVICES",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the cluster's documents.  [default: that of --cluster]",
)
_cluster_option = click.option(
    "--cluster",
    help="Cluster that joined from this machine.  [default: the only one]",
    shell_complete=propose_joined,
)


def _here(ctx: click.Context) -> tuple[Path, set[ServiceName], dict[ServiceName, Path]]:
    """The folder that is meant, the services that it describes, and those that it exports."""
    folder = _folder(ctx.params.get("services"), ctx.params.get("cluster"), home_of(ctx))
    known, exported, _ = _read(folder)
    return folder, known, exported


def _to_export(ctx: click.Context) -> Iterator[tuple[str, str]]:
    _, known, exported = _here(ctx)
    # What is exported already is named again only to say something else of it.
    return ((str(name), "") for name in (known if ctx.params.get("dns") else known - exported.keys()))


def _to_unexport(ctx: click.Context) -> Iterator[tuple[str, str]]:
    folder, _, exported = _here(ctx)
    return ((str(name), "") for name, path in exported.items() if path == _path(folder, name))


@click.command()
@click.argument("service", shell_complete=proposing(_to_export))
@click.option(
    "--dns",
    type=click.Choice([mode.value for mode in DnsMode]),
    help="What DNS answers: 'gateway' the service's VIP, 'endpoints' addresses of the nearest healthy endpoints, for "
    f"clients that do not pass through a gateway.  [default: {DnsMode.GATEWAY.value}]",
)
@_services_option
@_cluster_option
@home_option
def export(service: str, dns: str | None, services: Path | None, cluster: str | None, home: Path | None) -> None:
    """Offer SERVICE (<namespace>/<name>) of this cluster to all others, under the same name.

    Writes a ServiceExport document into the folder that the gateway watches. Given again with another --dns, it changes
    that document.
    """
    name = ServiceName.parse(service)
    folder = _folder(services, cluster, home)
    known, exported, broken = _read(folder)
    if name not in known:
        there = ", ".join(sorted(map(str, known))) or "none"
        raise InvalidInput(
            f"no Service {name} is described in {folder} (there: {there})",
            f"Mend {broken[0]} first: {broken[1]}."
            if broken
            else "Describe it there first: see docs/services-files.md.",
        )
    path = _path(folder, name)
    document = _document(name, DnsMode(dns or DnsMode.GATEWAY))
    if name in exported:
        if dns is None or (exported[name] == path and path.read_bytes() == document):
            click.echo(f"{name} is exported already, by {exported[name].name}.")
            return
        if exported[name] != path or path.read_bytes() not in [_document(name, mode) for mode in DnsMode]:
            raise InvalidInput(
                f"{name} is exported by a document of your own, {exported[name]}",
                f"Write there, below spec, exportedAnnotations: {{{ANNOTATION}: {dns}}}",
            )
    write_file(path, document, 0o644)
    click.echo(f"Exported {name}: {path}")
    click.echo(f"While this cluster's gateway runs, every cluster finds it at {name.host()}")


@click.command()
@click.argument("service", shell_complete=proposing(_to_unexport))
@_services_option
@_cluster_option
@home_option
def unexport(service: str, services: Path | None, cluster: str | None, home: Path | None) -> None:
    """Take SERVICE (<namespace>/<name>) of this cluster back; other clusters that export it go on."""
    name = ServiceName.parse(service)
    folder = _folder(services, cluster, home)
    _, exported, _ = _read(folder)
    if name not in exported:
        raise InvalidInput(f"{name} is not exported by {folder}", "See what is exported with 'isthmus services'.")
    if exported[name] != _path(folder, name):
        raise InvalidInput(
            f"{name} is exported by a document of your own, {exported[name]}",
            "Remove the ServiceExport from that file.",
        )
    try:
        exported[name].unlink()
    except OSError as error:
        raise unwritable(exported[name], error) from error
    click.echo(f"Took {name} back: removed {exported[name]}")


def _folder(services: Path | None, cluster: str | None, home: Path | None) -> Path:
    folder = services or cluster_folder(find_home(home), cluster, instead="--services") / "services"
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}", "Give the folder that the gateway watches with --services.")
    return folder


def _path(folder: Path, name: ServiceName) -> Path:
    return folder / f"{name.namespace}.{name.name}.export.yaml"


def _document(name: ServiceName, mode: DnsMode) -> bytes:
    text = _DOCUMENT.format(service=name, namespace=name.namespace, name=name.name)
    return (text if mode is DnsMode.GATEWAY else text + _SPEC.format(dns=mode.value)).encode()


def _read(folder: Path) -> tuple[set[ServiceName], dict[ServiceName, Path], tuple[str, str] | None]:
    """Names of the services that are described, those exported with their file, and a broken file with why."""
    import yaml

    known: set[ServiceName] = set()
    exported: dict[ServiceName, Path] = {}
    broken: tuple[str, str] | None = None
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
            # The gateway goes on with its last good content, and so do we with the others.
            broken = broken or (path.name, _why(error))
            continue
        for document in documents:
            metadata = document.get("metadata") if isinstance(document, dict) else None
            if not isinstance(metadata, dict):
                continue
            name = ServiceName(str(metadata.get("namespace", "default")), str(metadata.get("name", "")))
            if document.get("kind") == "Service":
                known.add(name)
            elif document.get("kind") == "ServiceExport":
                exported[name] = path
    return known, exported, broken


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "").lower()
    mark = getattr(error, "problem_mark", None)
    return "it is not YAML" + (f" at line {mark.line + 1}" if mark else "")
