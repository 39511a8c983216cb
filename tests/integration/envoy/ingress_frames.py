"""Speak HTTP/2 to an ingress frame by frame, as somebody who holds a certificate or none."""

import asyncio
import ssl

from isthmus_core.names import ClusterId
from isthmus_gateway.resources.names import caller_protocol
from support.envoy_gateway import Pair

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def settings_came(answer: bytes) -> bool:
    """Whether the peer spoke HTTP/2 to us: a server's first frame is SETTINGS (type 4)."""
    return len(answer) >= 9 and answer[3] == 4


async def ask_ingress(
    pair: Pair, files: tuple[bytes, bytes] | None, request: bytes, stream: int = 1, says: str = "a"
) -> bytes:
    """Send HTTP/2 frames to b's ingress over TLS, as cluster `says` would; what comes back until `stream` is answered,
    empty when refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pair.world.roots_pem.decode())
    context.set_alpn_protocols(["h2", caller_protocol(ClusterId(says))])
    if files:
        chain, key = pair.folder / "client.pem", pair.folder / "client.key"
        chain.write_bytes(files[0])
        key.write_bytes(files[1])
        context.load_cert_chain(chain, key)
    gateway = pair.b.me.gateways[0]
    answer = b""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(gateway.address, gateway.port, ssl=context)
            try:
                writer.write(request)
                while content := await reader.read(4096):
                    answer += content
                    if request == PREFACE or status_of(answer, stream) is not None:
                        break
            finally:
                writer.close()
    except (ssl.SSLError, ConnectionError):
        pass
    return answer


STATUSES = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}  # HPACK's static table, RFC 7541, appendix A


def connect_request(authority: str, extra: str = "") -> bytes:
    """A first CONNECT over a new connection, whose stream stays open."""
    return PREFACE + connect_frame(authority, 1, extra)


def connect_frame(authority: str, stream: int, extra: str = "") -> bytes:
    """A CONNECT as HTTP/2 HEADERS without compression; `extra` is what the caller says of the service's own name."""
    headers = [(b":method", b"CONNECT"), (b":authority", authority.encode())]
    if extra:
        headers.append((b"x-isthmus-local", extra.encode()))
    block = b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in headers)
    return len(block).to_bytes(3) + b"\x01\x04" + stream.to_bytes(4) + block


def reset_frame(stream: int) -> bytes:
    """RST_STREAM with CANCEL: whoever wanted this stream is gone."""
    return (4).to_bytes(3) + b"\x03\x00" + stream.to_bytes(4) + (8).to_bytes(4)


def status_of(answer: bytes, stream: int = 1) -> int | None:
    """The status of this stream, 0 for one that was reset or a connection given up, None while none of it came."""
    while len(answer) >= 9:
        length, kind, about = int.from_bytes(answer[:3]), answer[3], int.from_bytes(answer[5:9])
        payload, answer = answer[9 : 9 + length], answer[9 + length :]
        if kind == 7 or (kind == 3 and about == stream):
            return 0
        if kind == 1 and about == stream:
            return STATUSES.get(payload.lstrip(bytes(range(0x20, 0x40)))[0], -1)
    return None
