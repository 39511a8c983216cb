"""Remember whole answers by whole packets: what is asked in the same bytes again costs one look-up."""

from collections.abc import Iterable

# Packets that came once: a flood of random names, or of random case (0x20), stays here and costs little.
_ONCE_KEPT = 8192
_LONGEST = 250

_OPT_LENGTH = 11


class Remembered:
    """Answers that depend on nothing but the zone and the packet. Packets and answers stand here without their ids.

    What is remembered is true until `forget` or `forget_all` says otherwise; the one who changes the zone calls them
    in the same breath. A packet is remembered when it comes for the second time.
    """

    __slots__ = ("_answers_kept", "_denials_kept", "_forms", "_once", "answers", "denials")

    def __init__(self, answers_kept: int = 16384, denials_kept: int = 8192) -> None:
        self._answers_kept = answers_kept
        self._denials_kept = denials_kept
        self.answers: dict[bytes, bytes] = {}
        self.denials: dict[bytes, bytes] = {}
        """NODATA and NXDOMAIN; apart, because every change of the zone's serial ends them all."""
        self._forms: dict[bytes, list[bytes]] = {}
        """The packets remembered for each lower-case question: flags, case of letters and OPT records differ."""
        self._once: set[bytes] = set()

    def note(self, packet: bytes, question: bytes, answer: bytes) -> None:
        """The answer to `packet`, which asks the lower-case `question`."""
        if packet in self.answers or not self._came_before(packet):
            return
        if len(self.answers) >= self._answers_kept:
            self.answers.clear()
            self._forms.clear()
        self.answers[packet] = answer
        self._forms.setdefault(question, []).append(packet)

    def note_denial(self, packet: bytes, answer: bytes) -> None:
        """The negative answer to `packet`."""
        if packet in self.denials or not self._came_before(packet):
            return
        if len(self.denials) >= self._denials_kept:
            self.denials.clear()
        self.denials[packet] = answer

    def forget(self, questions: Iterable[bytes]) -> None:
        """The answers to these lower-case questions changed, and the zone's serial or names perhaps too."""
        self.denials.clear()
        if self._forms:
            for question in questions:
                for packet in self._forms.pop(question, ()):
                    del self.answers[packet]

    def forget_all(self) -> None:
        """Everything changed."""
        self.answers.clear()
        self.denials.clear()
        self._forms.clear()

    def _came_before(self, packet: bytes) -> bool:
        if packet in self._once:
            return True
        if len(self._once) >= _ONCE_KEPT:
            self._once.clear()
        if len(packet) <= _LONGEST:
            self._once.add(packet)
        return False


def question_of(packet: bytes) -> bytes:
    """The lower-case question of a remembered packet: at most a bare OPT record stands behind it."""
    return (packet[10:-_OPT_LENGTH] if packet[9] else packet[10:]).lower()
