"""Get the DNS servers that `make bench` compares with: CoreDNS from its Go module, the others from Debian.

python tools/peers.py            one line a step; what cannot be had is said in one sentence, and is no failure
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import bootstrap  # noqa: E402 - after the path

PACKAGES = {"named": "bind9", "knotd": "knot", "dnsperf": "dnsperf"}
FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The Debian packages whose program is not here."""
    return [package for program, package in PACKAGES.items() if not shutil.which(program, path=FOLDERS)]


def install_packages() -> None:
    """With apt and as root; otherwise say what would be compared with if it were there."""
    wanted = missing()
    if not wanted:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise bootstrap.Missing(
            f"not compared with, because not installed: {', '.join(wanted)} "
            "(Debian packages; as root this would install them itself)"
        )
    with bootstrap.step(f"{', '.join(wanted)} from Debian"), _no_services():
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        advice = "the Debian packages cannot be installed: install them by hand, or go on without"
        bootstrap.run("apt-update", ["apt-get", "update", "-q"], advice, env)
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *wanted]
        bootstrap.run("apt-install", command, advice, env)


class _no_services:  # noqa: N801  (read as a statement: `with _no_services()`)
    """Packages must not start their servers: a rule of Debian's for that, unless there is one."""

    def __enter__(self) -> None:
        self.ours = not NO_SERVICES.exists()
        if self.ours:
            NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
            NO_SERVICES.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.ours:
            NO_SERVICES.unlink(missing_ok=True)


def build_coredns() -> None:
    """Into .tools/bin/coredns, unless what is there is of the same sources."""
    source = ROOT / "tools" / "coredns"
    names = ("go.mod", "go.sum", "main.go")
    wanted = hashlib.sha256(b"".join((source / name).read_bytes() for name in names)).hexdigest()
    built = bootstrap.TOOLS / "bin" / "coredns"
    mark = built.with_suffix(".stamp")
    if built.exists() and mark.exists() and mark.read_text() == wanted:
        return
    with bootstrap.step("CoreDNS from its Go module"):
        built.parent.mkdir(parents=True, exist_ok=True)
        command = ["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(built), "."]
        advice = "CoreDNS cannot be built: the others are compared with all the same"
        bootstrap.run("coredns", [str(bootstrap.get_go()), *command], advice, bootstrap.go_environment(), source)
        mark.write_text(wanted)
        for folder in (bootstrap.TOOLS / "go-cache", bootstrap.TOOLS / "go"):
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    for get in (install_packages, build_coredns):
        try:
            get()
        except (bootstrap.Missing, subprocess.SubprocessError) as reason:
            bootstrap.say(f"bench: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
