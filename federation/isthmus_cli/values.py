"""Check single values of settings, and say in one sentence what is wrong with one and how to mend it."""

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from isthmus_core.errors import InvalidInput
from isthmus_core.names import parse_cluster_id

LONGEST_ID = 32

V = TypeVar("V")


def split(value: object) -> object:
    """What a variable or a lonely entry of the file says, as the values between its blanks."""
    return tuple(value.split()) if isinstance(value, str) else value


def host_port(text: str) -> str:
    """HOST:PORT."""
    from isthmus_cli.api import parse_address

    if text.isdigit():
        raise _wrong(InvalidInput(f"{text!r} is not HOST:PORT", f"Write it like 127.0.0.1:{text}."))
    return _checked(text, lambda: parse_address(text, 1))


def host_ports(text: str) -> str:
    """HOST:PORT, several with commas; at least one."""
    for part in text.split(","):
        host_port(part.strip())
    return text


def ip_port(text: str) -> str:
    """IP:PORT: where Envoy listens, and what other clusters' Envoys connect to."""
    from isthmus_cli.api import parse_address

    host, _ = parse_address(host_port(text), 1)
    try:
        ip_address(host)
    except ValueError:
        mend = "Write an address such as 192.0.2.7:15443 or [2001:db8::7]:15443."
        raise _wrong(InvalidInput(f"{host!r} is no IP address", mend)) from None
    return text


def network(text: str) -> str:
    """Addresses as a network and its length."""
    try:
        ip_network(text)
    except ValueError:
        try:
            near = f", for example {ip_network(text, strict=False)}"
        except ValueError:
            near = " and its length, such as 127.80.0.0/16"
        raise _wrong(InvalidInput(f"{text!r} is no network", f"Write a network{near}.")) from None
    return text


def gateway_id(text: str) -> str:
    """A DNS label: the controllers take no other name."""
    return _checked(text, lambda: _label(text))


def _label(text: str) -> None:
    try:
        parse_cluster_id(text)
    except InvalidInput as wrong:
        raise InvalidInput(f"{text!r} is not a DNS label", wrong.mend) from None


def gateway_name(host: str) -> str:
    """The name of a gateway on a host of that name, which may be a domain name or otherwise no DNS label."""
    short = re.sub(r"[^a-z0-9-]+", "-", host.partition(".")[0].lower())[:63].strip("-")
    return short or "gateway"


def dns_listen(text: str) -> str:
    """IP:PORT, several with commas."""
    from isthmus_dns.listening.addresses import parse_address

    return _checked(text, lambda: [parse_address(part) for part in text.split(",")])


def zones(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Zones with their name servers."""
    from isthmus_dns.zone.apex import parse_zone
    from isthmus_dns.zone.zone import Zone

    return _checked(texts, lambda: Zone([parse_zone(text) for text in texts]))


def mailbox(text: str) -> str:
    """A mail address, or a DNS name that stands for one (RFC 1035)."""
    from isthmus_dns.zone.apex import mailbox_name

    return _checked(text, lambda: mailbox_name(text))


def resolvers(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks."""
    from isthmus_dns.clients.subnet import parse_networks

    return _checked(texts, lambda: parse_networks(texts))


def places(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Networks and where they are."""
    from isthmus_dns.clients.subnet import SubnetMap, parse_place

    return _checked(texts, lambda: SubnetMap(map(parse_place, texts)))


def server_id(text: str) -> str:
    """A short name in plain characters."""
    if len(text) > LONGEST_ID or not (text.isascii() and text.isprintable()):
        raise _wrong(InvalidInput(f"{text!r} is not a server id", f"Use at most {LONGEST_ID} ASCII characters."))
    return text


def socket_path(path: Path | None) -> Path | None:
    """Where a unix socket is, or may appear."""
    if path is None:
        return None
    if path.exists() and not path.is_socket():
        raise _wrong(InvalidInput(f"{path} is not a socket", "Name the unix socket on which the receiver listens."))
    if not path.parent.is_dir():
        raise _wrong(InvalidInput(f"there is no folder {path.parent}", "Name a socket in a folder that exists."))
    return path


def explain(error: ErrorDetails, field: FieldInfo) -> tuple[str, str]:
    """The sentence and the mend for what pydantic found."""
    reason = (error.get("ctx") or {}).get("error")
    if isinstance(reason, ValueError) and reason.args and isinstance(reason.args[0], InvalidInput):
        return reason.args[0].sentence, reason.args[0].mend
    kind, found = error["type"], error["input"]
    if kind.startswith(("int_", "float_", "greater_", "less_", "finite_")):
        return _number(kind, found, field)
    if kind == "literal_error":
        return f"{found!r} is not known", f"Use one of {error['ctx']['expected']}."
    if kind.startswith("bool_"):
        return f"{found!r} is neither yes nor no", "Use true or false."
    if kind in ("string_type", "path_type"):
        return f"{found!r} is not text", "Put it between quotes."
    if kind == "tuple_type":
        return f"{found!r} is not a list", 'Write it like ["one", "two"].'
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {found!r}", "See docs/reference.md."


def _number(kind: str, found: object, field: FieldInfo) -> tuple[str, str]:
    limits = _limits(field.metadata)
    low, high = limits.get("ge", limits.get("gt")), limits.get("le")
    above = "above" if "gt" in limits else "from"
    span = f" {above} {low}" if low is not None else ""
    span += f" {'up ' if 'gt' in limits else ''}to {high}" if high is not None else ""
    mend = f"Use a{' whole' if field.annotation is int else ''} number{span}."
    if str(found).lower() == "nan":
        return f"{found} is not a number", mend
    if kind.startswith("greater_"):
        return f"{found} is too small", mend
    if kind.startswith("less_"):
        return f"{found} is too large", mend
    return f"{found!r} is not a{' whole' if field.annotation is int else ''} number", mend


def _limits(metadata: Iterable[object]) -> Mapping[str, float]:
    """`ge`, `gt` and `le` of a field, by name."""
    found = {}
    for bound in metadata:
        for name in ("ge", "gt", "le"):
            if (limit := getattr(bound, name, None)) is not None:
                found[name] = limit
    return found


def _checked(value: V, parse: Callable[[], object]) -> V:
    """`value` when `parse` takes it; pydantic wants a ValueError, which carries ours."""
    try:
        parse()
    except InvalidInput as wrong:
        raise _wrong(wrong) from None
    except ValueError as wrong:
        raise _wrong(InvalidInput(str(wrong))) from None
    return value


def _wrong(reason: InvalidInput) -> ValueError:
    return ValueError(reason)
