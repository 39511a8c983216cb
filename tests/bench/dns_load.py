"""Load for the DNS bench, and the floor it is held against; a process of its own, pinned to one core.

    dns_load.py flood HOST PORT SECONDS FILE     as many queries as go; prints how many were sent a second
    dns_load.py pace HOST PORT SECONDS FILE RATE an open loop; prints lost, p50, p99 in microseconds
    dns_load.py floor HOST PORT FILE             answer from precompiled bytes and do nothing else a server has to do

FILE has one query a line, in hexadecimal; for `floor` its answer follows after a space.
"""

import selectors
import socket
import sys
import time
from pathlib import Path

BURST = 0.001


def flood(address: tuple[str, int], seconds: float, queries: list[bytes]) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    send, count, began = sock.send, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for query in queries[:1000]:
            send(query)
        count += min(1000, len(queries))
    print(count / (time.perf_counter() - began))


def pace(address: tuple[str, int], seconds: float, queries: list[bytes], rate: float) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.connect(address)
    sock.setblocking(False)
    sent_at = [0.0] * 65536
    times: list[float] = []
    sent, began = 0, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds + 0.2:
        due = min(int((now - began) * rate), int(seconds * rate))
        for number in range(sent, min(due, sent + 200)):
            sent_at[number & 0xFFFF] = time.perf_counter()
            sock.send((number & 0xFFFF).to_bytes(2, "big") + queries[number % len(queries)][2:])
            sent += 1
        try:
            while True:
                answer = sock.recv(2048)
                times.append(time.perf_counter() - sent_at[int.from_bytes(answer[:2], "big")])
        except BlockingIOError:
            pass
    times.sort()
    lost = sent - len(times)
    print(lost, times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6)


def floor(address: tuple[str, int], answers: dict[bytes, bytes]) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(address)
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
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
    if mode == "floor":
        pairs = [line.split() for line in Path(rest[0]).read_text().splitlines()]
        floor(address, {bytes.fromhex(query)[12:]: bytes.fromhex(answer)[2:] for query, answer in pairs})
    queries = [bytes.fromhex(line.split()[0]) for line in Path(rest[1]).read_text().splitlines()]
    if mode == "flood":
        flood(address, float(rest[0]), queries)
    else:
        pace(address, float(rest[0]), queries, float(rest[2]))


if __name__ == "__main__":
    main()
