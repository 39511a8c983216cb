"""Move datagrams many at a time: recvmmsg(2) and sendmmsg(2) through ctypes, where the system has them."""

import ctypes
import errno
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import add

from isthmus_dns.answering.answer import SAMPLE, Responder
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.listening.udp import See, UdpListener
from isthmus_dns.message import wire
from isthmus_dns.watching.traffic import Traffic

_BATCH = 64
_FEW = 4  # up to so many, working on a whole batch in C does not pay
_SLOT = 256  # what nearly every query fits in; all slots of a batch are copied at once
_LONGEST_QUERY = 2048
_OVERFLOW = _LONGEST_QUERY - _SLOT
_ADDRESS = 32  # struct sockaddr_in6 has 28 bytes, and is the larger one
# struct mmsghdr of a 64-bit Linux: name, namelen, iov, iovlen, control, controllen, flags, then the received length.
_HEADER = struct.Struct("=QIxxxxQQQQixxxxIxxxx")
_VECTOR = struct.Struct("=QQ")
_CLIENTS_KEPT = 65536

_STARTS = [at * _SLOT + 2 for at in range(_BATCH)]
_BASES = [at * _SLOT for at in range(_BATCH)]


Client = int | tuple[int, int]
"""An IPv4 or IPv6 address as it lies in memory."""


def mmsg_available() -> bool:
    """Whether this system has both calls, in the layout that we know."""
    return sys.platform == "linux" and struct.calcsize("P") == 8 and hasattr(_libc(), "recvmmsg")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class BatchedUdpListener(UdpListener):
    """Like `udp.UdpListener`, with two system calls for up to 64 queries instead of two for each.

    What is done for every query is done in C, for the whole batch at once: cut the queries out of their slots, look
    them up among the remembered ones, join the answers. The kernel puts each query's id, where it lies in its slot,
    before its answer. Python code runs for a query only when something about it is new or not plain.
    """

    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        traffic: Traffic,
        clock: Callable[[], float],
        limiter: RateLimiter | None = None,
        see: See | None = None,
    ) -> None:
        super().__init__(sock, responder, traffic, clock, limiter, see)
        self._clients: dict[Client, str] = {}
        self._unlimited: set[Client] = set()
        libc = _libc()
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._lay_out()

    def _lay_out(self) -> None:
        """Buffers and headers, made once: the kernel fills them, and only addresses and lengths of answers change."""
        self._queries = bytearray(_BATCH * _SLOT)
        self._overflows = bytearray(_BATCH * _OVERFLOW)
        self._answers = bytearray(_BATCH * wire.UDP_MOST)
        self._addresses = bytearray(_BATCH * _ADDRESS)
        self._vectors = bytearray((_BATCH * 4 + 2) * _VECTOR.size)  # one place is never sent from
        self._headers = bytearray(_BATCH * 2 * _HEADER.size)
        size = 28 if self._six else 16
        queries, overflows, addresses, vectors = map(
            _where, (self._queries, self._overflows, self._addresses, self._vectors)
        )
        for at in range(_BATCH):
            incoming, outgoing = 2 * at * _VECTOR.size, 2 * (_BATCH + at) * _VECTOR.size
            slot = queries + at * _SLOT
            _VECTOR.pack_into(self._vectors, incoming, slot, _SLOT)
            _VECTOR.pack_into(self._vectors, incoming + _VECTOR.size, overflows + at * _OVERFLOW, _OVERFLOW)
            _VECTOR.pack_into(self._vectors, outgoing, slot, 2)
            for half, vector in ((at, incoming), (_BATCH + at, outgoing)):
                name = addresses + at * _ADDRESS
                _HEADER.pack_into(self._headers, half * _HEADER.size, name, size, vectors + vector, 2, 0, 0, 0, 0)
        where = _where(self._headers)
        self._incoming = ctypes.c_void_p(where)
        self._outgoing = [ctypes.c_void_p(where + (_BATCH + at) * _HEADER.size) for at in range(_BATCH)]
        self._where_answers = _where(self._answers)
        self._slots = memoryview(self._queries)
        self._answer_bytes = memoryview(self._answers)
        self._lengths = memoryview(self._headers).cast("I")[14 :: _HEADER.size // 4][:_BATCH]
        words = memoryview(self._vectors).cast("Q")
        self._answer_places, self._answer_lengths = words[4 * _BATCH + 2 :: 4], words[4 * _BATCH + 3 :: 4]
        self._fours = memoryview(self._addresses).cast("I")[1 :: _ADDRESS // 4]
        halves = memoryview(self._addresses).cast("Q")
        self._sixes = halves[1 :: _ADDRESS // 8], halves[2 :: _ADDRESS // 8]

    def _drain(self) -> None:
        descriptor = self._sock.fileno()
        began = self._clock()
        count = self._receive(descriptor, self._incoming, _BATCH, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return  # nothing there, or an ICMP error of an earlier answer
        few = count <= _FEW and self._place_few(count)
        if few:
            ready, sent, octets = count, self._send_all(descriptor, 0, count), few
        else:
            ready, sent, octets = self._answer(descriptor, count)
        asked = sum(self._lengths[:count].tolist())
        self._traffic.batch("udp", count, sent, ready - sent, octets, self._clock() - began, asked, self._six)

    def _place_few(self, count: int) -> int:
        """Lay out the answers to a handful of plain queries; how long they are, and 0 when one of them is not plain."""
        if self._see is not None:
            return 0
        responder, unlimited, lengths = self._responder, self._unlimited, self._lengths
        remembered = responder.remembered
        octets = missing = 0
        packets = []
        for at in range(count):
            packet = self._slots[at * _SLOT + 2 : at * _SLOT + lengths[at]].tobytes()
            if self._limiter is not None and self._client_of(at) not in unlimited:
                return 0
            answer = remembered.answers.get(packet)
            if answer is None:
                answer = remembered.denials.get(packet)
                if answer is None:
                    return 0
                missing += answer[1] & 15 == wire.NXDOMAIN
            self._answer_bytes[octets : octets + len(answer)] = answer
            self._answer_places[at] = self._where_answers + octets
            self._answer_lengths[at] = len(answer)
            octets += len(answer)
            packets.append(packet)
        responder.nxdomain += missing
        self._sample(packets)
        return octets + 2 * count

    def _sample(self, packets: list[bytes]) -> None:
        if len(self._responder.hits) < SAMPLE:
            self._responder.hits += packets
        else:
            self._responder.unsampled += len(packets)

    def _answer(self, descriptor: int, count: int) -> tuple[int, int, int]:
        """Answer what was received: how many answers there are, how many were sent, how long they are together."""
        responder = self._responder
        block = self._slots[: count * _SLOT].tobytes()
        ends = map(add, _BASES, self._lengths[:count].tolist())
        packets = [block[start:end] for start, end in zip(_STARTS, ends, strict=False)]
        answers: list[bytes | None] = [*map(responder.remembered.answers.get, packets)]
        if None in answers:
            packets = self._look_closer(packets, answers)
        self._sample(packets)
        if self._limiter is not None:
            clients = self._clients_of(count)
            if not self._unlimited.issuperset(clients):
                self._limit(self._limiter, clients, answers)
        if self._see is not None:
            for at in range(count):
                self._show(self._see, at, answers[at])
        if None not in answers:
            octets = self._place(answers)  # type: ignore[arg-type] # as the line above says
            return count, self._send_all(descriptor, 0, count), octets + 2 * count
        octets = self._place([answer or b"" for answer in answers])
        ready, sent, at = count - answers.count(None), 0, 0
        answers.append(None)  # so that every run of answers has an end
        while at < count:
            end = answers.index(None, at)
            sent += self._send_all(descriptor, at, end)
            at = end + 1
        return ready, sent, octets + 2 * ready

    def _place(self, answers: list[bytes]) -> int:
        """Lay the answers out for the kernel, one behind the other; how long they are together."""
        lengths = [*map(len, answers)]
        octets = sum(lengths)
        self._answer_bytes[:octets] = b"".join(answers)
        self._answer_lengths[: len(lengths)] = array("Q", lengths)
        self._answer_places[: len(lengths) + 1] = array("Q", accumulate(lengths, initial=self._where_answers))
        return octets

    def _look_closer(self, packets: list[bytes], answers: list[bytes | None]) -> list[bytes]:
        """Find the answers that are still None, where there are any; the packets that were remembered."""
        responder = self._responder
        denials, proven = responder.remembered.denials, responder.remembered.proven
        anew = set()
        at = -1
        for _ in range(answers.count(None)):
            at = answers.index(None, at + 1)
            denial = answers[at] = denials.get(packets[at])
            if denial is None:
                client = self._client(self._client_of(at))
                answers[at] = proven.get((packets[at], client))
                if answers[at] is None:
                    response = responder.respond(self._query(at), False, client)
                    answers[at] = response and response[2:]
                    anew.add(at)
            elif denial[1] & 15 == wire.NXDOMAIN:
                responder.nxdomain += 1
        return [packet for at, packet in enumerate(packets) if at not in anew] if anew else packets

    def _limit(self, limiter: RateLimiter, clients: Sequence[Client], answers: list[bytes | None]) -> None:
        """Withhold or cut answers to clients that had enough of them."""
        for at, raw in enumerate(clients):
            answer = answers[at]
            if answer is None or raw in self._unlimited:
                continue
            client = self._client(raw)
            bucket = limiter.buckets.get(client)
            if bucket is None:
                bucket = limiter.bucket(client)
            if bucket is limiter.unlimited:
                if len(self._unlimited) >= _CLIENTS_KEPT:
                    self._unlimited.clear()
                self._unlimited.add(raw)
                continue
            bucket[0] -= 1
            if bucket[0] < 0:
                query = self._query(at)
                response = limiter.over(bucket, client, query, query[:2] + answer)
                answers[at] = response and response[2:]

    def _show(self, see: See, at: int, answer: bytes | None) -> None:
        query = self._query(at)
        port = int.from_bytes(self._addresses[at * _ADDRESS + 2 : at * _ADDRESS + 4], "big")
        see(query, None if answer is None else query[:2] + answer, self._client(self._client_of(at)), port, False)

    def _query(self, at: int) -> bytes:
        """The whole query in slot `at`."""
        start, length = at * _SLOT, self._lengths[at]
        query = bytes(self._queries[start : start + min(length, _SLOT)])
        if length > _SLOT:
            start = at * _OVERFLOW
            query += self._overflows[start : start + length - _SLOT]
        return query

    def _send_all(self, descriptor: int, at: int, end: int) -> int:
        """Send the answers from slot `at` to before slot `end`; how many were sent."""
        sent = 0
        while at < end:
            done = self._send(descriptor, self._outgoing[at], end - at, socket.MSG_DONTWAIT)
            if done > 0:
                at += done
                sent += done
            elif ctypes.get_errno() in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                break  # the send buffer is full: clients ask again
            else:
                at += 1  # a peer that cannot exist (port 0): the next one can
        return sent

    def _clients_of(self, count: int) -> Sequence[Client]:
        if self._six:
            high, low = self._sixes
            return [*zip(high[:count].tolist(), low[:count].tolist(), strict=True)]
        return self._fours[:count].tolist()

    def _client_of(self, at: int) -> Client:
        return (self._sixes[0][at], self._sixes[1][at]) if self._six else self._fours[at]

    def _client(self, raw: Client) -> str:
        client = self._clients.get(raw)
        if client is None:
            if len(self._clients) >= _CLIENTS_KEPT:
                self._clients.clear()
            client = self._clients[raw] = _address(raw)
        return client


def _address(raw: Client) -> str:
    if isinstance(raw, int):
        return socket.inet_ntop(socket.AF_INET, raw.to_bytes(4, sys.byteorder))
    return socket.inet_ntop(socket.AF_INET6, b"".join(half.to_bytes(8, sys.byteorder) for half in raw))


def _where(buffer: bytearray) -> int:
    """The address of a buffer; it never changes its size, so it never moves."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
