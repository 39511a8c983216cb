"""Ask the controllers' admin API: HTTPS with the admin's client certificate, one address after the other."""

import json
import socket
import ssl
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from isthmus_cli.home import AdminConfig, controller_option, find_home, home_option, read_config, readable
from isthmus_core.errors import InvalidInput, IsthmusError, Refused, Unavailable

T = TypeVar("T")

ADMIN_ADDRESS = "127.0.0.1:15014"
"""Where a controller serves the admin API by default."""


class Answer(NamedTuple):
    """A successful answer: its JSON body and the address that gave it."""

    body: Any
    controller: str


class AdminClient:
    """A small blocking client: the CLI asks one question and ends."""

    def __init__(self, config: AdminConfig, timeout: float = 5.0) -> None:
        """`timeout` in seconds, for connecting and for each read."""
        self._config = config
        self._timeout = timeout
        self._context = _context(config)

    def get(self, *parts: str, **query: str) -> Any:
        """The JSON at `/v1/<parts>`; raises Unavailable, Refused or InvalidInput with the controller's sentence."""
        return self.ask("GET", *parts, query=query).body

    def read(self, kind: type[T], *parts: str, **query: str) -> T:
        """The same as a typed value; a controller of another version that answers otherwise is named."""
        import msgspec

        answer = self.ask("GET", *parts, query=query)
        try:
            return msgspec.convert(answer.body, kind)
        except msgspec.ValidationError as error:
            raise Unavailable(
                f"{answer.controller} gave an answer that this version does not understand ({error})",
                "Compare 'isthmus version' here with the controller's.",
            ) from None

    def ask(self, method: str, *parts: str, query: dict[str, str] | None = None, body: object = None) -> Answer:
        """One request, to the first controller that can be reached."""
        path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
        if query:
            path += "?" + "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items() if v)
        failures: list[str] = []
        if not self._config.controllers:
            raise InvalidInput("no controller is named", "Write its address like 127.0.0.1:15014 or [::1]:15014.")
        for controller in self._config.controllers:
            try:
                return Answer(self._once(controller, method, path, body), controller)
            except OSError as error:
                failures.append(f"{controller}: {_reason(error)}")
        start = f"isthmus controller{listen_flags(self._config.controllers)}"
        raise Unavailable(
            f"no controller answers ({'; '.join(failures)})",
            f"Start one with '{start}', or name another with --controller HOST:PORT.",
        )

    def _once(self, controller: str, method: str, path: str, body: object) -> object:
        host, port = parse_address(controller, 15014)
        payload = b"" if body is None else json.dumps(body).encode()
        # HTTP/1.0, so that the answer ends with the connection: the standard library's client takes longer to import
        # than this takes to run, and a person waits for it.
        head = f"{method} {path} HTTP/1.0\r\nHost: {self._config.server_name}\r\nContent-Length: {len(payload)}\r\n"
        if payload:
            head += "Content-Type: application/json\r\n"
        # The certificate names the controller's role, not its address, so that controllers can move.
        with (
            socket.create_connection((_plain(host), port), self._timeout) as raw,  # type: ignore[arg-type]  # see there
            self._context.wrap_socket(raw, server_hostname=_plain(self._config.server_name)) as connection,
        ):
            if method != "GET":
                # A controller that waits for etcd says so itself, after its own time for that.
                connection.settimeout(3 * self._timeout)
            # Else the request waits 40 ms for the acknowledgement of the handshake (Nagle meets delayed ACK).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head.encode() + b"\r\n" + payload)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        status, text = _parse(answer)
        if status < 300:
            return json.loads(text) if text else None
        raise _error(status, text)


class _Strange(OSError):
    """An answer that is none."""


def _plain(host: str) -> str | bytes:
    """A name in ASCII as bytes, which `getaddrinfo` takes too: for text it imports the tables of all other scripts."""
    return host.encode() if host.isascii() else host


def _parse(answer: bytes) -> tuple[int, bytes]:
    """Status and body of a whole HTTP answer; raises OSError when it is none or not whole."""
    if not answer:
        raise _Strange("it ended the connection without an answer: it is no admin API, or is just stopping")
    head, blank, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ", 2)
    lengths = [
        int(line[15:]) for line in lines if line.lower().startswith(b"content-length:") and line[15:].strip().isdigit()
    ]
    if not blank or not words[0].startswith(b"HTTP/1.") or not words[1:2] or not words[1].isdigit():
        raise _Strange("what listens there is no admin API")
    if lengths and len(body) != lengths[0]:
        raise _Strange("the answer broke off")
    return int(words[1]), body


def parse_address(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` or a https URL as (host, port); raises InvalidInput."""
    bare = text.strip().removeprefix("https://").rstrip("/")
    host, colon, port = bare.rpartition(":")
    if not colon or bare.endswith("]"):
        host, port = bare, str(default_port)
    strange = any(letter.isspace() or letter in "/@?#,;" for letter in host)
    if not host or strange or not port.isdecimal() or not port.isascii() or not 1 <= int(port[:6]) <= 65535:
        raise InvalidInput(f"{text!r} is not HOST:PORT", "Write it like 127.0.0.1:15014 or [::1]:15014.")
    return host.strip("[]"), int(port)


def listen_flags(addresses: tuple[str, ...]) -> str:
    """The flags with which a controller serves where it is looked for: gateways must reach it there as well."""
    if not addresses or addresses[0] == ADMIN_ADDRESS:
        return ""
    host, port = parse_address(addresses[0], 15014)
    if port == 15010:
        return ""  # somebody took the gateways' port for the admin API's: one cannot be both
    shown = f"[{host}]" if ":" in host else host
    return f" --listen {shown}:15010 --admin-listen {shown}:{port}"


def admin_client(home: object, controller: str | None, timeout: float = 5.0) -> AdminClient:
    """The client for `--home` and `--controller`."""
    from pathlib import Path

    config = read_config(find_home(home if isinstance(home, Path) else None))
    if controller:
        config = config._replace(controllers=tuple(c.strip() for c in controller.split(",") if c.strip()))
    return AdminClient(config, timeout)


def _context(config: AdminConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for path in (config.root, config.certificate, config.key):
        try:
            there = path.is_file()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {_damage(error)}", readable(error)) from None
        if not there:
            raise InvalidInput(f"{path} is missing", "It is written by 'isthmus init'; copy it from where that ran.")
    mend = "Copy it from where 'isthmus init' ran."
    try:
        context.load_verify_locations(cafile=str(config.root))
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput(
            f"the trust root {config.root} cannot be used: {_damage(error)}", readable(error) or mend
        ) from None
    try:
        context.load_cert_chain(str(config.certificate), str(config.key))
    except (ssl.SSLError, OSError) as error:
        pair = f"{config.certificate} with {config.key}"
        raise InvalidInput(
            f"the admin credential {pair} cannot be used: {_damage(error)}", readable(error) or mend
        ) from None
    return context


def _damage(error: OSError) -> str:
    """Why OpenSSL takes no certificate or key; what it says itself tells a person nothing."""
    if isinstance(error, ssl.SSLError):
        return "they do not belong together" if "MISMATCH" in (error.reason or "") else "it is damaged"
    return (error.strerror or "").lower()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not of this federation ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _error(status: int, text: bytes) -> IsthmusError:
    try:
        body = json.loads(text)
        sentence, mend = str(body["error"]), str(body.get("mend", ""))
    except (ValueError, KeyError, TypeError):
        sentence, mend = f"the controller answered {status} with no reason", "Look at the controller's log."
    if status in (401, 403):
        return Refused(sentence, mend)
    if status >= 500:
        return Unavailable(sentence, mend)
    return InvalidInput(sentence, mend)


__all__ = ["AdminClient", "Answer", "admin_client", "controller_option", "home_option", "parse_address"]
