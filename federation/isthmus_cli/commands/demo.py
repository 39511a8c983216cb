"""`isthmus demo`: the whole product on one machine, with real parts and real numbers."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from shlex import quote

import click

from isthmus_cli.anywhere import AnywhereOption
from isthmus_cli.garbage import collect_garbage
from isthmus_cli.output import paint, show
from isthmus_core.errors import InvalidInput, IsthmusError
from isthmus_kit.limits import raise_file_limit


@click.command()
@click.option("--once", is_flag=True, help="End after the story even on a terminal.")
@click.option(
    "--output",
    "-o",
    cls=AnywhereOption,
    type=click.Choice(("table", "json", "yaml")),
    default="table",
    show_default=True,
    help="How to print the result.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Empty folder for its files.  [default: a new temporary one]",
)
def demo(once: bool, output: str, data_dir: Path | None) -> None:
    """Run three clusters on this machine: they join, share services, fail and recover, under a steady load.

    Needs no root and touches only loopback addresses. On a terminal the federation stays up afterwards for you to
    try; Ctrl-C ends it. The exit status is 1 when a request was lost or an answer was wrong.
    """
    stay = not once and output == "table" and sys.stdout.isatty() and sys.stdin.isatty()
    collect_garbage()
    # For what is started here, too: on a busy machine a thousand connections may wait for a moment.
    raise_file_limit()
    sys.exit(asyncio.run(_demo(stay, output, _folder(data_dir))))


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        try:
            folder = Path(tempfile.gettempdir()).absolute()
            _check_length(folder / "isthmus-demo-12345678")
            return Path(tempfile.mkdtemp(prefix="isthmus-demo-", dir=folder))
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise InvalidInput(
                f"no temporary folder can be made: {reason}", "Give the demo an empty folder with --data-dir."
            ) from None
    _check_length(data_dir.absolute())
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if any(data_dir.iterdir()):
            raise InvalidInput(f"{data_dir} is not empty", "Give the demo an empty folder, or none.")
        (data_dir / ".isthmus-demo").touch()
    except OSError as error:
        raise InvalidInput(
            f"{data_dir} cannot be used: {(error.strerror or '').lower()}",
            "Give the demo a folder that you may write to.",
        ) from None
    return data_dir.absolute()


def _check_length(folder: Path) -> None:
    """Refuse a folder in which unix sockets cannot be named: unix(7) gives a name 107 bytes."""
    from isthmus_cli.demo.world import PLACES

    longest = max(len(os.fsencode(folder / "clusters" / name / "envoy-admin.sock")) for name, _ in PLACES)
    if longest > 107:
        raise InvalidInput(
            f"the path {folder} is too long: unix sockets in it would have names of {longest} bytes, and may have 107",
            "Give an empty folder with a shorter path with --data-dir.",
        )


async def _demo(stay: bool, output: str, folder: Path) -> int:
    from isthmus_cli.demo.story import Story
    from isthmus_cli.demo.world import World

    begun = time.monotonic()
    tty = sys.stdout if output == "table" else sys.stderr

    def say(text: str) -> None:
        mark = " " * 8 if text.startswith("    ") else paint(f"{time.monotonic() - begun:6.1f}s ", "cyan")
        click.echo(f"{mark}{text}", file=tty)

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _cancel, task)
    say(f"Isthmus demo. Its files are in {folder}")
    world = World(folder)
    story = Story(world, say)
    try:
        await world.open()
        await story.tell()
        story.report.seconds = round(time.monotonic() - begun, 1)
        _finish(story, output)
        if stay:
            _invite(world)
            await asyncio.Event().wait()
    except IsthmusError as error:
        raise type(error)(error.sentence, error.mend or f"Look into {folder / 'logs'}.") from error
    except asyncio.CancelledError:
        say("Stopping everything.")
        if not story.report.seconds:
            return 130
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await world.stop()
        say(f"Everything is stopped; its files stay in {folder}")
    return 0 if story.report.good else 1


def _cancel(task: "asyncio.Task[int] | None") -> None:
    if task is not None:
        task.cancel()


def _finish(story: object, output: str) -> None:
    from isthmus_cli.demo.story import Story

    assert isinstance(story, Story)
    report = story.report

    def as_table() -> str:
        rows = "\n".join(f"  {name:<20}{ms:8.0f} ms" for name, ms in report.failover_ms.items())
        verdict = paint("no request was lost, no answer was wrong", "green", bold=True)
        if not report.good:
            first = "\n".join(f"  {line}" for line in report.errors)
            verdict = (
                paint(f"{report.lost} lost, {report.dns_wrong} wrong DNS answers", "red", bold=True) + f"\n{first}"
            )
        if report.unsent:
            rows += f"\nThis machine was too busy to send {report.unsent} requests more when they were due."
        return (
            f"\n{report.clusters} clusters, {report.services} services, {report.requests} requests, "
            f"{report.dns_queries} DNS queries in {report.seconds} s: {verdict}\n"
            f"The longest that any request waited for its answer, by fault:\n{rows}"
        )

    show(report, output, as_table)


def _invite(world: object) -> None:
    from isthmus_cli.demo.story import ECHO
    from isthmus_cli.demo.world import World

    assert isinstance(world, World)
    near, second, _ = world.places
    ports = world.ports
    click.echo("\nThe federation stays up until you press Ctrl-C. In another terminal:\n")
    # Quoted for the shell, and absolute: the other terminal may be in another folder.
    click.echo(f"  export PATH={quote(str(Path(sys.executable).parent))}:$PATH ISTHMUS_HOME={quote(str(world.home))}\n")
    for line in (
        "isthmus status --watch",
        f"isthmus explain shop/echo --from {near.name}",
        f"isthmus cluster drain {second.name}",
        f"dig @{near.dns} -p {ports.dns} {ECHO} +noall +answer",
        f"curl -s http://$(dig @{near.dns} -p {ports.dns} {ECHO} +short):{ports.http}/",
    ):
        click.echo(f"  {line}")
