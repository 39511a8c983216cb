"""The one tree of errors, and the sentence each of them shows to a person.

    IsthmusError
    ├── InvalidInput    somebody gave us something wrong: one sentence, and how to mend it
    ├── Refused         the caller is known or unknown, but may not do this
    └── Unavailable     something outside does not answer now: shells retry with jitter

Everything else is a bug and stops the part that it happens in. Conflicts and rejections are values, not errors.
"""


class IsthmusError(Exception):
    """Base of all errors that have a sentence for a person; `str()` gives the sentence with its mend."""

    def __init__(self, sentence: str, mend: str = "") -> None:
        super().__init__(f"{sentence.rstrip('.')}. {mend}".strip() if mend else sentence)
        self.sentence = sentence
        self.mend = mend


class InvalidInput(IsthmusError):
    """Input that cannot be used: a file, a flag, a token, a packet, a peer's message."""


class Refused(IsthmusError):
    """A caller that may not do what it asks for."""


class Unavailable(IsthmusError):
    """Something outside of this process does not answer, for now."""
