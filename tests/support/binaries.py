"""Where the real parts lie: the environment's variable, what `make env` put beside the interpreter, then PATH."""

import os
import shutil
import sys
from pathlib import Path


def find(variable: str, program: str) -> Path:
    named = os.environ.get(variable)
    beside = Path(sys.executable).parent / program
    found = named or (str(beside) if beside.exists() else shutil.which(program))
    assert found, f"no {program}: run `make env`, or name one in {variable}"
    return Path(found)


def etcd() -> Path:
    return find("ISTHMUS_ETCD", "etcd")


def envoy() -> Path:
    return find("ISTHMUS_ENVOY", "envoy")
