"""Say whether a process can do its work, and name what is missing when it cannot."""

import msgspec


class Part(msgspec.Struct, frozen=True):
    """One part of a process: `ok` or not, and why in words."""

    ok: bool
    why: str = ""


class Readiness:
    """What `/readyz` answers: every part is ok, or is named with its reason.

    A part that is not ok makes the process unready. A warning names something that a person should mend while the
    process goes on with what it has (a file that cannot be parsed, a controller that is away).
    """

    def __init__(self, *parts: str) -> None:
        self._parts: dict[str, Part] = {part: Part(ok=False, why="not started yet") for part in parts}
        self._warnings: dict[str, str] = {}
        self._stopping = False

    def set(self, part: str, ok: bool, why: str = "") -> None:
        """Record the state of `part`; `why` is shown when it is not ok."""
        self._parts[part] = Part(ok=ok, why=why)

    def warn(self, part: str, why: str) -> None:
        """Name something that is wrong but does not keep the process from its work; an empty `why` takes it back."""
        if why:
            self._warnings[part] = why
        else:
            self._warnings.pop(part, None)

    def part_ok(self, part: str) -> bool:
        """Whether one part is ok."""
        return part in self._parts and self._parts[part].ok

    @property
    def stopping(self) -> bool:
        """Whether the process ends."""
        return self._stopping

    def stop(self) -> None:
        """Never be ready again: the process ends. Called before any listener closes."""
        self._stopping = True

    @property
    def ready(self) -> bool:
        """Whether every part is ok."""
        return not self.missing()

    def missing(self) -> dict[str, str]:
        """The parts that are not ok, each with its reason."""
        missing = {name: part.why for name, part in sorted(self._parts.items()) if not part.ok}
        return {"process": "stopping"} | missing if self._stopping else missing

    def warnings(self) -> dict[str, str]:
        """What a person should mend, by part."""
        return dict(sorted(self._warnings.items()))
