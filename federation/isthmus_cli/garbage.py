"""Collect garbage only in commands that live long: a short one ends before there is any, and would pay for the search.

`main` stops the collector before anything else is imported; whatever may run for longer than a question and its answer
starts it again: `run_until_signal`, and each `--watch`.
"""

import atexit
import gc


def leave_garbage() -> None:
    """Search for no garbage: this process has not begun, and ends soon."""
    gc.disable()
    # The interpreter searches twice more as it ends, through everything that is not frozen.
    atexit.register(gc.freeze)


def collect_garbage() -> None:
    """Search for garbage from now on, but not among what stands here already: modules stay for good."""
    gc.freeze()
    gc.enable()
