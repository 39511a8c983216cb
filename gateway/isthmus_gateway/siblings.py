"""Notice that the gateways of this cluster do not have the same services: what it exports is not what is here."""

import logging
from collections.abc import Callable, Collection
from typing import Final

from isthmus_core.names import few
from isthmus_kit.readiness import Readiness

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""Seconds until a difference is one: files come and go on several hosts one after the other."""

_MEND = "Give all gateways of a cluster the same services folder."
_MEND_HERE = "Delete it here too, or start this gateway again to export it."


class Siblings:
    """Compares what the registry holds of the cluster with what this gateway offers; its names are resources' names."""

    def __init__(self, folder: str, readiness: Readiness, clock: Callable[[], float]) -> None:
        self._folder: Final = folder
        self._readiness: Final = readiness
        self._clock: Final = clock
        self._since: dict[str, float] = {}
        self._told = ""

    def look(self, exported: Collection[str], offered: Collection[str], *, current: bool) -> None:
        """Warn of what is only there or only here for a while.

        While what is known is not `current`, nothing is found that was not found before.
        """
        now, there, here = self._clock(), set(exported), set(offered)
        self._since = {
            name: self._since.get(name, now) for name in sorted(there ^ here) if current or name in self._since
        }
        lasting = [name for name, since in self._since.items() if now - since >= PATIENCE_S]
        self._tell([name for name in lasting if name in there], [name for name in lasting if name in here])

    def _tell(self, lacking: list[str], withdrawn: list[str]) -> None:
        sentences: list[str] = []
        if lacking:
            sentences.append(f"{self._folder} does not have {few(lacking)}, which this cluster exports. {_MEND}")
        if withdrawn:
            sentences.append(f"another gateway withdrew {few(withdrawn)}, which {self._folder} has. {_MEND_HERE}")
        told = " ".join(sentences)
        self._readiness.warn("siblings", told)
        if told and not self._told:
            log.warning("the gateways of this cluster do not have the same services", extra={"why": told})
        elif self._told and not told:
            log.info("this gateway has the services that its cluster exports")
        self._told = told
