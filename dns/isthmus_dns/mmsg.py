"""Move datagrams many at a time: recvmmsg(2) and sendmmsg(2) through ctypes, where the system has them."""

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable

from isthmus_dns.ratelimit import RateLimiter
from isthmus_dns.traffic import Traffic
from isthmus_dns.udp import Respond, See, UdpListener

_BATCH = 64
_ROUNDS = 4
_LONGEST_QUERY = 2048
_LONGEST_ANSWER = 1232
_ADDRESS = 28  # struct sockaddr_in6, the larger one
# struct mmsghdr of a 64-bit Linux: name, namelen, iov, iovlen, control, controllen, flags, then the received length.
_HEADER = struct.Struct("=QIxxxxQQQQixxxxIxxxx")
_VECTOR = struct.Struct("=QQ")
_CLIENTS_KEPT = 65536


def mmsg_available() -> bool:
    """Whether this system has both calls, in the layout that we know."""
    return sys.platform == "linux" and struct.calcsize("P") == 8 and hasattr(_libc(), "recvmmsg")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class BatchedUdpListener(UdpListener):
    """Like `udp.UdpListener`, with two system calls for up to 64 queries instead of two for each."""

    def __init__(
        self,
        sock: socket.socket,
        respond: Respond,
        traffic: Traffic,
        clock: Callable[[], float],
        limiter: RateLimiter | None = None,
        see: See | None = None,
    ) -> None:
        super().__init__(sock, respond, traffic, clock, limiter, see)
        self._six = sock.family == socket.AF_INET6
        self._clients: dict[bytes, str] = {}
        libc = _libc()
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._lay_out()

    def _lay_out(self) -> None:
        """Buffers and headers, made once: the kernel fills them, and only lengths are written again."""
        self._queries = bytearray(_BATCH * _LONGEST_QUERY)
        self._answers = bytearray(_BATCH * _LONGEST_ANSWER)
        self._addresses = bytearray(_BATCH * _ADDRESS)
        self._vectors = bytearray(_BATCH * _VECTOR.size * 2)
        self._headers = bytearray(_BATCH * _HEADER.size * 2)
        size = _ADDRESS if self._six else 16
        queries, answers, addresses, vectors = map(
            _where, (self._queries, self._answers, self._addresses, self._vectors)
        )
        self._where_addresses = addresses
        for at in range(_BATCH):
            incoming, outgoing = at * _VECTOR.size, (_BATCH + at) * _VECTOR.size
            _VECTOR.pack_into(self._vectors, incoming, queries + at * _LONGEST_QUERY, _LONGEST_QUERY)
            _VECTOR.pack_into(self._vectors, outgoing, answers + at * _LONGEST_ANSWER, 0)
            for half, vector in ((at, incoming), (_BATCH + at, outgoing)):
                name = addresses + at * _ADDRESS
                _HEADER.pack_into(self._headers, half * _HEADER.size, name, size, vectors + vector, 1, 0, 0, 0, 0)
        where = _where(self._headers)
        self._incoming, self._outgoing = where, where + _BATCH * _HEADER.size
        self._header_words = memoryview(self._headers).cast("I")
        self._name_words = memoryview(self._headers).cast("Q")
        self._vector_words = memoryview(self._vectors).cast("Q")

    def _drain(self) -> None:
        descriptor = self._sock.fileno()
        for _ in range(_ROUNDS):
            began = self._clock()
            count = self._receive(descriptor, ctypes.c_void_p(self._incoming), _BATCH, socket.MSG_DONTWAIT, None)
            if count <= 0:
                return  # nothing there, or an ICMP error of an earlier answer
            ready, octets = self._answer(count)
            sent = self._send_all(descriptor, ready)
            self._traffic.batch("udp", count, sent, ready - sent, octets, self._clock() - began)
            if count < _BATCH:
                return

    def _answer(self, count: int) -> tuple[int, int]:
        """Answer what was received; how many answers there are to send, and how long they are together."""
        queries, answers, addresses = memoryview(self._queries), self._answers, memoryview(self._addresses)
        words, vectors, respond = self._header_words, self._vector_words, self._respond
        clients, limiter, see = self._clients, self._limiter, self._see
        first, last = (8, 24) if self._six else (4, 8)
        ready = octets = 0
        for at in range(count):
            start = at * _LONGEST_QUERY
            packet = bytes(queries[start : start + words[at * 16 + 14]])
            start = at * _ADDRESS
            raw = bytes(addresses[start + first : start + last])
            client = clients.get(raw)
            if client is None:
                client = self._client(raw)
            response = respond(packet, False, client)
            if response is not None and limiter is not None:
                bucket = limiter.buckets.get(client)
                if bucket is None:
                    bucket = limiter.bucket(client)
                bucket[0] -= 1
                if bucket[0] < 0:
                    response = limiter.over(bucket, client, packet, response)
            if see is not None:
                see(packet, response, client, int.from_bytes(addresses[start + 2 : start + 4], "big"), False)
            if response is None:
                continue
            length = len(response)
            start = ready * _LONGEST_ANSWER
            answers[start : start + length] = response
            vectors[2 * (_BATCH + ready) + 1] = length
            # The answer goes to where its query came from, also when one before it got none.
            self._name_words[8 * (_BATCH + ready)] = self._where_addresses + at * _ADDRESS
            ready += 1
            octets += length
        return ready, octets

    def _send_all(self, descriptor: int, ready: int) -> int:
        at = sent = 0
        while at < ready:
            where = ctypes.c_void_p(self._outgoing + at * _HEADER.size)
            done = self._send(descriptor, where, ready - at, socket.MSG_DONTWAIT)
            if done > 0:
                at += done
                sent += done
            elif ctypes.get_errno() in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                break  # the send buffer is full: clients ask again
            else:
                at += 1  # a peer that cannot exist (port 0): the next one can
        return sent

    def _client(self, raw: bytes) -> str:
        if len(self._clients) >= _CLIENTS_KEPT:
            self._clients.clear()
        client = self._clients[raw] = socket.inet_ntop(socket.AF_INET6 if self._six else socket.AF_INET, raw)
        return client


def _where(buffer: bytearray) -> int:
    """The address of a buffer; it never changes its size, so it never moves."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
