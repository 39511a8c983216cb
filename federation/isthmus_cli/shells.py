"""Answer shells that complete a command: click's own ways of doing so, where they would be noisy or wrong mended."""

import os
import re
import sys
from itertools import pairwise

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)


class _Bash(BashComplete):
    # `env` says it when the command is not there any more, in the middle of what a person types.
    source_template = BashComplete.source_template.replace("_complete $1)", "_complete $1 2>/dev/null)")

    def get_completion_args(self) -> tuple[list[str], str]:
        """As click does, with the words whole: bash cuts them at `=` and `:` as well (COMP_WORDBREAKS)."""
        position = int(os.environ["COMP_CWORD"])
        cut = split_arg_string(os.environ["COMP_WORDS"])[: position + 1]
        if len(cut) <= position:
            cut.append("")
        words = cut[:1]
        for before, word in pairwise(cut):
            if re.fullmatch("[=:]+", word) or (re.fullmatch("[=:]+", before) and word):
                words[-1] += word
            else:
                words.append(word)
        return words[1:-1], words[-1]


class _WholeWord(ShellComplete):
    """For shells that put a proposal in the place of the whole word, also of its `--option=`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):
            for item in found:
                item.value = f"{option}={item.value}" if item.type == "plain" else item.value
        return found


class _Zsh(_WholeWord, ZshComplete):
    source_template = ZshComplete.source_template.replace(
        "_complete %(prog_name)s)", "_complete %(prog_name)s 2>/dev/null)"
    )


class _Fish(_WholeWord, FishComplete):
    source_template = (
        FishComplete.source_template.replace("%(prog_name)s);\n\n", "%(prog_name)s 2>/dev/null);\n\n")
        # click's script cuts a description off at its first comma.
        .replace('string split "," ', 'string split --max 1 "," ')
    )


def register_shells() -> None:
    """Let click use ours."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


def answer_quietly() -> None:
    """This process answers a shell: whatever goes wrong, the line that a person types stays as it is."""
    register_shells()
    if os.environ.get("_ISTHMUS_COMPLETE", "").endswith("_complete"):
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
