"""Put what all files say together into one cluster's services; disagreements between files are problems, not errors."""

from collections.abc import Mapping

import msgspec

from isthmus_core.model import HealthCheck, LocalService
from isthmus_core.names import ServiceName
from isthmus_gateway.sources.documents import FileError, Place
from isthmus_gateway.sources.services import Described, DescribedExport, FileContent

# Envoy makes all checks in one thread, the probes of other clusters too: ten thousand checks in a tenth of a second let
# those come too late, and healthy clusters look dead.
MOST_CHECKS_PER_S = 1000


class Problem(msgspec.Struct, frozen=True, order=True):
    """Something that a person should mend in a file."""

    place: Place
    reason: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}." + (f" {self.mend}" if self.mend else "")


class Assembly(msgspec.Struct, frozen=True):
    """The services of all files together, the file that each of them comes from, and what is wrong between files."""

    services: Mapping[ServiceName, LocalService] = {}
    owners: Mapping[ServiceName, str] = {}
    problems: tuple[Problem, ...] = ()


def problem_of(error: FileError) -> Problem:
    """A file's error as a value."""
    return Problem(error.place, error.reason, error.mend)


def assemble(files: Mapping[str, FileContent], owners: Mapping[ServiceName, str]) -> Assembly:
    """All files together.

    When two files describe one service, the file that described it before (`owners`) keeps it, so that adding a file
    never disturbs traffic; at the first reading it is the first by file name.
    """
    services: dict[ServiceName, Described] = {}
    exports: dict[ServiceName, DescribedExport] = {}
    problems: list[Problem] = []
    for file in sorted(files):
        for described in files[file].services:
            name = described.service.service
            rival = services.get(name)
            keeps = rival is None or (owners.get(name) == file and owners.get(name) != rival.place.file)
            if rival is not None:
                problems.append(_rivals("Service", name, *((described, rival) if keeps else (rival, described))))
            if keeps:
                services[name] = described
        for export in files[file].exports:
            other = exports.setdefault(export.service, export)
            if other.spec != export.spec:
                problems.append(_rivals("ServiceExport", export.service, other, export))
    for name, export in exports.items():
        if name not in services:
            mend = "Describe it with a 'kind: Service' document, or remove the ServiceExport."
            problems.append(
                Problem(export.place, f"ServiceExport {name} exports a service that no file describes", mend)
            )
    return Assembly(
        services={name: _exported(found.service, exports.get(name)) for name, found in services.items()},
        owners={name: found.place.file for name, found in services.items()},
        problems=tuple(problems),
    )


def _rivals(
    kind: str, name: ServiceName, used: Described | DescribedExport, other: Described | DescribedExport
) -> Problem:
    reason = f"{kind} {name} is described here and in {used.place}, which is used"
    return Problem(other.place, reason, "Keep one of them.")


def _exported(service: LocalService, export: DescribedExport | None) -> LocalService:
    check = paced(service.health_check, len(service.endpoints))
    return msgspec.structs.replace(service, health_check=check, export=export.spec if export else service.export)


def paced(check: HealthCheck, endpoints: int) -> HealthCheck:
    """The check with an interval at which so many endpoints are not checked too often altogether.

    It grows in doublings, because a new interval costs Envoy a new cluster and a new endpoint must not.
    """
    interval = check.interval_ms
    while interval * MOST_CHECKS_PER_S < endpoints * 1000:
        interval *= 2
    return check if interval == check.interval_ms else msgspec.structs.replace(check, interval_ms=interval)
