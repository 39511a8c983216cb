"""Publications whose changes may be nested: what one event causes is one change, whoever makes the parts of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from isthmus_sync import Publication, ResourceCache


class NestedPublication(Publication):
    """Counts only the outermost change: the pace of a stream tells load from one event with several parts by that."""

    _inside = False

    @contextmanager
    def change(self) -> Iterator[Mapping[str, ResourceCache]]:
        """Put and remove inside; followers see all of it at once, at the end of the outermost one."""
        if self._inside:
            yield self.caches
            return
        self._inside = True
        try:
            with super().change() as caches:
                yield caches
        finally:
            self._inside = False
