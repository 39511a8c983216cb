"""Resolve the dependencies of pyproject.toml and write the lock files: with hashes, without index addresses."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--quiet",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",  # pip and setuptools are pinned as well: --require-hashes wants every package
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-emit-find-links",
    "--no-emit-options",
)


def compile_lock(output: str, *options: str, source: str = "pyproject.toml") -> None:
    command = [
        sys.executable,
        "-m",
        "piptools",
        "compile",
        *OPTIONS,
        *options,
        f"--output-file={output}",
        source,
    ]
    print(f"lock: {output}", file=sys.stderr)
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CUSTOM_COMPILE_COMMAND": "make lock"})


def main() -> None:
    upgrade = ("--upgrade",) if "--upgrade" in sys.argv[1:] else ()
    compile_lock("requirements.txt", *upgrade)
    compile_lock("requirements-dev.txt", "--extra=dev", "--constraint=requirements.txt", *upgrade)
    compile_lock("requirements-fuzz.txt", *upgrade, source="requirements-fuzz.in")


if __name__ == "__main__":
    main()
