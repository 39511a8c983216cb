"""The `isthmus` command: runs the command that is called, and turns errors into one sentence."""

import errno
import os
import sys

from isthmus_cli.garbage import leave_garbage


def main() -> None:
    """Run the command; exit 0 when it worked, 1 when it failed, 2 when it was called wrongly."""
    leave_garbage()
    # Only now: to walk through what is imported takes a tenth of the time of a short command.
    import click

    from isthmus_cli.root import root
    from isthmus_core.errors import IsthmusError

    try:
        code = root.main(prog_name="isthmus", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else 1)
    except IsthmusError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OUTPUT_LOST or error.filename is not None:
            raise
        _leave_stdout()
        click.echo(f"Error: the output cannot be written: {(error.strerror or '').lower()}. Free some space.", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


_OUTPUT_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _leave_stdout() -> None:
    """What standard output still holds cannot be written: let Python not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
