"""Remember whole answers by whole packets: what is asked in the same bytes again costs one look-up."""

from collections.abc import Iterable

# Packets that came once: a flood of random names, or of random case (0x20), stays here and costs little.
_ONCE_KEPT = 8192
_LONGEST = 250

_OPT_LENGTH = 11
_OPT_HEAD = b"\0\0\x29"
COOKIED_LENGTH = _OPT_LENGTH + 4 + 24
"""An OPT record with nothing but a whole cookie, as a resolver sends it once it has ours."""


class Remembered:
    """Answers that depend on nothing but the zone and the packet. Packets and answers stand here without their ids.

    What is remembered is true until `forget` or `forget_all` says otherwise; the one who changes the zone calls them
    in the same breath. A packet is remembered when it comes for the second time.
    """

    __slots__ = ("_answers_kept", "_denials_kept", "_forms", "_once", "_proven_forms", "answers", "denials", "proven")

    def __init__(self, answers_kept: int = 16384, denials_kept: int = 8192) -> None:
        self._answers_kept = answers_kept
        self._denials_kept = denials_kept
        self.answers: dict[bytes, bytes] = {}
        self.denials: dict[bytes, bytes] = {}
        """NODATA and NXDOMAIN; apart, because every change of the zone's serial ends them all."""
        self.proven: dict[tuple[bytes, str], bytes] = {}
        """Answers to packets with a cookie that proves this client's address; true until `forget_proven`, too."""
        self._proven_forms: dict[bytes, list[tuple[bytes, str]]] = {}
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

    def note_proven(self, packet: bytes, client: str, question: bytes, answer: bytes) -> None:
        """The answer to `packet` of a client whose address its cookie proves."""
        key = packet, client
        if key in self.proven or not self._came_before(packet):
            return
        if len(self.proven) >= self._answers_kept:
            self.forget_proven()
        self.proven[key] = answer
        self._proven_forms.setdefault(question, []).append(key)

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
        if self._forms or self._proven_forms:
            for question in questions:
                for packet in self._forms.pop(question, ()):
                    del self.answers[packet]
                for key in self._proven_forms.pop(question, ()):
                    del self.proven[key]

    def forget_proven(self) -> None:
        """Cookies grow old, and clients go."""
        self.proven.clear()
        self._proven_forms.clear()

    def forget_all(self) -> None:
        """Everything changed."""
        self.answers.clear()
        self.denials.clear()
        self._forms.clear()
        self.forget_proven()

    def _came_before(self, packet: bytes) -> bool:
        if packet in self._once:
            return True
        if len(self._once) >= _ONCE_KEPT:
            self._once.clear()
        if len(packet) <= _LONGEST:
            self._once.add(packet)
        return False


def question_of(packet: bytes) -> bytes:
    """The lower-case question of a remembered packet: at most an OPT record stands behind it."""
    if not packet[9]:
        return packet[10:].lower()
    end = len(packet) - _OPT_LENGTH
    if packet[end : end + 3] == _OPT_HEAD and packet[-2:] == b"\0\0":
        return packet[10:end].lower()
    return packet[10:-COOKIED_LENGTH].lower()
