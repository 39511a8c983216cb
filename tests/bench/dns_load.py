"""Load for the DNS bench, and the floor it is held against; a process of its own, pinned to one core.

    dns_load.py flood HOST PORT SECONDS FILE SOCKETS WINDOW   as many as come back, with so many under way in all
    dns_load.py pace HOST PORT SECONDS FILE RATE NAP [WATCH]  so many a second, whatever comes back
    dns_load.py floor HOST PORT FILE                          answer from bytes, and nothing else a server has to do

FILE has one query a line, in hexadecimal, with ids counted from 0; for `floor` its answer follows after a space.
`pace` sleeps NAP seconds when nothing is due (0: it spins), and asks WATCH, a query in hexadecimal, each time it sends:
when an answer to it ends in other bytes than the last one, that is in `seen` with the time of the monotonic clock.
What was measured is printed as one line of JSON (support/dns_peers/load.py reads it).

Datagrams are moved many at a time by sendmmsg(2) and recvmmsg(2), from memory laid out before the clock starts: a query
costs this process a microsecond, and it is not what limits any of the servers.
"""

import ctypes
import gc
import json
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path

BATCH = 64
ROOM = 2048
WARM = 0.3  # seconds of a flood that are not counted
GRACE = 0.3  # seconds in which the last answers may come
STALL = 0.1  # seconds without an answer after which what was under way is lost
HEADER = struct.Struct("=QIxxxxQQQQixxxxIxxxx")  # struct mmsghdr of a 64-bit Linux
VECTOR = struct.Struct("=QQ")
CONTROL = 32  # struct cmsghdr with one struct timespec
TIMESTAMPS = 35  # SO_TIMESTAMPNS; not in the socket module
LIBC = ctypes.CDLL(None, use_errno=True)


def where(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


class Queries:
    """All queries as the kernel wants them; `send` gives it the next ones."""

    def __init__(self, queries: list[bytes]) -> None:
        self.count = len(queries)
        self.bytes = bytearray(b"".join(queries))
        self.vectors = bytearray(self.count * VECTOR.size)
        self.headers = bytearray(self.count * HEADER.size)
        start, vectors = where(self.bytes), where(self.vectors)
        self.first = where(self.headers)
        for at, query in enumerate(queries):
            VECTOR.pack_into(self.vectors, at * VECTOR.size, start, len(query))
            HEADER.pack_into(self.headers, at * HEADER.size, 0, 0, vectors + at * VECTOR.size, 1, 0, 0, 0, 0)
            start += len(query)

    def send(self, descriptor: int, at: int, wanted: int) -> int:
        """How many of the `wanted` queries from number `at` on were sent (none over the end of the list)."""
        most = min(wanted, self.count - at)
        pointer = ctypes.c_void_p(self.first + at * HEADER.size)
        done: int = LIBC.sendmmsg(descriptor, pointer, most, socket.MSG_DONTWAIT)
        return max(0, done)


class Answers:
    """Room for a batch of answers, and for the time when the kernel took each in."""

    def __init__(self) -> None:
        self.bytes = bytearray(BATCH * ROOM)
        self.vectors = bytearray(BATCH * VECTOR.size)
        self.headers = bytearray(BATCH * HEADER.size)
        self.controls = bytearray(BATCH * CONTROL)
        for at in range(BATCH):
            VECTOR.pack_into(self.vectors, at * VECTOR.size, where(self.bytes) + at * ROOM, ROOM)
            vector, control = where(self.vectors) + at * VECTOR.size, where(self.controls) + at * CONTROL
            HEADER.pack_into(self.headers, at * HEADER.size, 0, 0, vector, 1, control, CONTROL, 0, 0)
        self.pointer = ctypes.c_void_p(where(self.headers))
        self.words = memoryview(self.headers).cast("Q")
        self.times = memoryview(self.controls).cast("Q")

    def receive(self, descriptor: int) -> int:
        count: int = LIBC.recvmmsg(descriptor, self.pointer, BATCH, socket.MSG_DONTWAIT, None)
        return max(0, count)

    def arrived(self, at: int) -> float:
        """When answer `at` came to the socket, by the wall clock; room is made for the next one there."""
        self.words[at * HEADER.size // 8 + 5] = CONTROL  # what the kernel wrote over: msg_controllen
        word = at * CONTROL // 8
        return self.times[word + 2] + self.times[word + 3] / 1e9


def connected(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.connect(address)
    sock.setblocking(False)
    return sock


def flood(address: tuple[str, int], seconds: float, queries: list[bytes], sockets: int, window: int) -> None:
    """Keep `window` queries under way over all sockets together, spinning: the server never waits for a wake-up."""
    ready, answers = Queries(queries), Answers()
    socks = [connected(address) for _ in range(sockets)]
    descriptors = [sock.fileno() for sock in socks]
    free = [window // sockets] * sockets
    at = [ready.count * number // sockets for number in range(sockets)]
    total = counted = lost = failed = 0
    clock = time.perf_counter
    began = last = clock()
    warm_at = counted_from = began + WARM
    end = warm_at + seconds
    while True:
        before = total
        for number in range(sockets):
            descriptor = descriptors[number]
            came = answers.receive(descriptor)
            if came:
                total += came
                free[number] += came
                # Looking at one of each batch is enough to notice a server that fails or refuses.
                if answers.bytes[3] & 15 not in (0, 3):
                    failed += 1
            if free[number] > 0:
                sent = ready.send(descriptor, at[number], min(BATCH, free[number]))
                free[number] -= sent
                at[number] = (at[number] + sent) % ready.count
        now = clock()
        if now >= warm_at and not counted:
            counted, counted_from = total, now
        if now >= end:
            break
        if total > before:
            last = now
        elif now - last > STALL:
            lost += window - sum(free)
            free, last = [window // sockets] * sockets, now
    rate = (total - counted) / (now - counted_from) if counted else 0.0
    print(json.dumps({"rate": rate, "answers": total, "lost": lost, "failed": failed}))


def pace(
    address: tuple[str, int], seconds: float, queries: list[bytes], rate: float, nap: float, watched: bytes
) -> None:
    """An open loop; an answer's time is from just before its query was sent until the kernel took the answer in.

    So the times are the server's and the kernel's: what stalls this process between two looks is not in them. The loop
    ends after so many seconds, or when it is asked to (SIGTERM).
    """
    ready, answers = Queries(queries), Answers()
    sock, watch = connected(address), connected(address)
    sock.setsockopt(socket.SOL_SOCKET, TIMESTAMPS, 1)
    descriptor, memory = sock.fileno(), answers.bytes
    sent_at, times, seen = [0.0] * ready.count, [], []
    sent = at = failed = 0
    shown = b""
    clock, wall, gap = time.perf_counter, time.time, 1 / rate
    began = clock()
    ends = [began + seconds]
    signal.signal(signal.SIGTERM, lambda *_: ends.append(clock()))
    while (now := clock()) < (end := ends[-1]) + GRACE:
        due = int((min(now, end) - began) * rate) - sent
        if due > 0:
            now = wall()
            done = ready.send(descriptor, at, min(due, BATCH))
            for number in range(at, at + done):
                sent_at[number] = now
            at = (at + done) % ready.count
            sent += done
            if watched:
                watch.send(watched)
        came = answers.receive(descriptor)
        for number in range(came):
            start = number * ROOM
            times.append(answers.arrived(number) - sent_at[memory[start] << 8 | memory[start + 1]])
            if memory[start + 3] & 15 not in (0, 3):
                failed += 1
        if watched:
            try:
                while True:
                    answer = watch.recv(ROOM)[-4:]
                    if answer != shown:
                        shown = answer
                        seen.append((socket.inet_ntoa(answer), clock()))
            except BlockingIOError:
                pass
        if nap and due * gap < 2 * nap:
            time.sleep(nap)
    came = len(times)
    times += [GRACE] * (sent - came)  # a lost one is as late as can be
    calm = median_of_tenths(times, int(rate / 10))
    p50, p99 = rank(times, 50), rank(times, 99)
    found = {"sent": sent, "answers": came, "failed": failed, "p50_us": p50 * 1e6, "p99_us": p99 * 1e6}
    print(json.dumps({**found, "calm_p99_us": calm * 1e6, "seen": seen}))


def rank(times: list[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)] if times else 0.0


def median_of_tenths(times: list[float], tenth: int) -> float:
    """The middle one of the p99 of each tenth of a second: what it is when the machine does not stand still."""
    pieces = [times[at : at + tenth] for at in range(0, max(1, len(times) - tenth + 1), tenth)]
    return rank([rank(piece, 99) for piece in pieces], 50)


def floor(address: tuple[str, int], answers: dict[bytes, bytes]) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(address)
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    while True:
        selector.select()
        try:
            for _ in range(128):
                query, peer = sock.recvfrom(4096)
                answer = answers.get(query[12:])
                if answer is not None:
                    sock.sendto(query[:2] + answer, peer)
        except BlockingIOError:
            continue


def main() -> None:
    mode, host, port, *rest = sys.argv[1:]
    address = (host, int(port))
    gc.disable()
    if mode == "floor":
        pairs = [line.split() for line in Path(rest[0]).read_text().splitlines()]
        floor(address, {bytes.fromhex(query)[12:]: bytes.fromhex(answer)[2:] for query, answer in pairs})
    seconds, queries = float(rest[0]), [bytes.fromhex(line) for line in Path(rest[1]).read_text().splitlines()]
    if mode == "flood":
        flood(address, seconds, queries, int(rest[2]), int(rest[3]))
    else:
        pace(address, seconds, queries, float(rest[2]), float(rest[3]), bytes.fromhex(rest[4] if rest[4:] else ""))


if __name__ == "__main__":
    main()
