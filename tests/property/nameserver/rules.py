"""What no bytes from outside may break, one function for each way in: fuzzing looks for bytes, a test replays them.

The first byte of every input chooses a variant (a server, a kind of message), so that one corpus serves all of them.
"""

from collections.abc import Callable, Mapping

from property.nameserver.fuzz_packets import batch, cookie, datagram, stream
from property.nameserver.fuzz_texts import document, token
from property.nameserver.fuzz_zones import changes, feed

RULES: Mapping[str, Callable[[bytes], None]] = {
    "datagram": datagram,
    "batch": batch,
    "changes": changes,
    "stream": stream,
    "cookie": cookie,
    "feed": feed,
    "token": token,
    "document": document,
}
