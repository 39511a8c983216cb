"""Set up what a process says about itself: structured logs and its own metrics registry."""

import asyncio
import logging
import sys
import time
from typing import IO, TYPE_CHECKING, Literal

import orjson

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LogFormat = Literal["auto", "json", "console"]

# Every attribute that a LogRecord has by itself; the others came in through `extra` and are the fields.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1", logging.DEBUG: "2"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields that were given with `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(fields_of(record))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class ConsoleFormatter(logging.Formatter):
    """One line for a person: time, level, the sentence, then `field=value`."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_shown(value)}" for name, value in fields_of(record).items())
        level = f"{record.levelname.lower():<8}"
        if self._colour and record.levelno in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelno]}m{level}\x1b[0m"
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        line = f"{stamp} {level} {record.getMessage()}" + (f"  {fields}" if fields else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in "\"'=" for c in text) else text


def setup_logging(level: str = "info", form: LogFormat = "auto", stream: IO[str] | None = None) -> None:
    """Send all logs to `stream` (stderr). `auto` means: for a person on a terminal, JSON everywhere else."""
    out = stream or sys.stderr
    terminal = out.isatty()
    log_handler = logging.StreamHandler(out)
    log_handler.setFormatter(
        JsonFormatter() if form == "json" or (form == "auto" and not terminal) else ConsoleFormatter(colour=terminal)
    )
    root = logging.getLogger()
    root.handlers[:] = [log_handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_says_something)


def _says_something(record: logging.LogRecord) -> bool:
    """Whether a line of gRPC says something: not that a client gave a call up in the moment in which it came."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def new_registry() -> "CollectorRegistry":
    """A metrics registry of one process, with memory, processor time, open files and garbage collection in it."""
    # Who logs does not always have metrics: a worker of the DNS server starts without them.
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
