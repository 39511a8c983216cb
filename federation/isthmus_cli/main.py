"""The `isthmus` command: runs the command that is called, and turns errors into one sentence."""

import errno
import os
import sys


def main() -> None:
    """Run the command; exit 0 when it worked, 1 when it failed, 2 when it was called wrongly."""
    # Ctrl-C while modules are imported, and when all is done, ends this process as it ends any other: no traceback.
    # Where SIGINT is ignored (a script's job in the background), it stays so. The module `signal` itself takes longer
    # to import than all before it, so its built-in part has to do.
    import _signal as signal  # type: ignore[import-not-found]

    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed()
    from isthmus_cli.garbage import leave_garbage

    leave_garbage()
    # Only now: to walk through what is imported takes a tenth of the time of a short command.
    import click

    from isthmus_cli.root import root
    from isthmus_core.errors import IsthmusError

    status = 1
    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if "_ISTHMUS_COMPLETE" in os.environ:
            from isthmus_cli.shells import answer_quietly

            answer_quietly()
        code = root.main(prog_name="isthmus", standalone_mode=False)
        sys.stdout.flush()
        status = code if isinstance(code, int) else 0
    except click.exceptions.Abort as stopped:
        status = _stopped(130 if isinstance(stopped.__cause__, KeyboardInterrupt) else 1)
    except KeyboardInterrupt:
        status = _stopped(130)
    except (click.ClickException, IsthmusError, OSError) as error:
        status = _told(error)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


def _open_closed() -> None:
    """Let streams that the caller closed lead nowhere; else the next file or socket would become standard output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free descriptor (open(2)), which is the one that was closed.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _stopped(status: int) -> int:
    import click

    click.echo("Stopped.", err=True)
    return status


def _told(error: Exception) -> int:
    """Say what a person can mend, and give the exit status; raises again what is a bug."""
    import click

    from isthmus_core.errors import IsthmusError

    if isinstance(error, click.ClickException):
        error.show()
        return 2 if isinstance(error, click.UsageError) else 1
    if isinstance(error, IsthmusError):
        click.echo(f"Error: {error}", err=True)
        return 1
    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, OSError) and error.errno in _OUTPUT_LOST and error.filename is None:
        _leave_stdout()
        click.echo(f"Error: the output cannot be written: {(error.strerror or '').lower()}. Free some space.", err=True)
        return 1
    if isinstance(error, PermissionError) and error.filename is not None:
        click.echo(
            f"Error: {error.filename} cannot be used: permission denied. Give this user the right to use it.", err=True
        )
        return 1
    raise error


_OUTPUT_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _leave_stdout() -> None:
    """What standard output still holds cannot be written: let Python not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
