"""A worker before its specification comes, as one line of JSON on standard input: import everything meanwhile."""

import gc
import sys
from select import select


def main() -> int:
    """`python -m isthmus_dns.serving.waiting`: serve what the specification says, until the supervisor ends."""
    gc.disable()  # it would walk through the modules while they are imported, several times
    from isthmus_dns.serving.worker import serve

    if not select([sys.stdin], [], [], 0)[0]:
        # There is still time for gRPC. Who is told at once what to serve is told the zone too, and needs it later.
        import isthmus_dns.feeding.agent  # noqa: F401
    gc.freeze()
    gc.enable()
    specification = sys.stdin.buffer.readline()
    return serve(specification) if specification else 0


if __name__ == "__main__":
    sys.exit(main())
