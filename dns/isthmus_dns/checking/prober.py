"""Ask servers and resolvers what `check` judges."""

import asyncio
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from isthmus_core.errors import InvalidInput
from isthmus_dns.checking.check import (
    Finding,
    Heard,
    Probes,
    Reply,
    ResolvConf,
    diagnose,
    parse_resolv_conf,
    searched_first,
)
from isthmus_dns.listening.addresses import Address, parse_address

_PATIENCE = 2.0


async def check(
    server: str,
    name: str,
    zone: str = "clusterset.local",
    resolv_conf: Path = Path("/etc/resolv.conf"),
    resolvers: Sequence[str] = (),
) -> list[Finding]:
    """What is wrong on the way from the resolvers of this machine to `name`; `server` is IP:PORT of `isthmus dns`.

    `resolvers` (IP or IP:PORT) are asked instead of those that `resolv_conf` names.
    """
    address = parse_address(server)
    text = await asyncio.to_thread(resolv_conf.read_text) if resolv_conf.exists() else ""
    conf = parse_resolv_conf(text)
    asked = name if name.rstrip(".").endswith(zone) else f"{name}.svc.{zone}"
    through = [_resolver(text) for text in resolvers or conf.servers]
    (udp, tcp, version, missing), heard = await asyncio.gather(
        asyncio.gather(
            ask(address, asked),
            ask(address, asked, tcp=True),
            ask(address, f"dns-version.{zone}", "TXT"),
            ask(address, _new_name(zone)),
        ),
        asyncio.gather(*(_hear(resolver, asked, zone, conf) for resolver in through)),
    )
    return diagnose(Probes(zone, asked, udp, tcp, version, missing, tuple(heard), conf))


def _resolver(text: str) -> Address:
    """IP:PORT, or an IP address whose port is the usual one."""
    try:
        return Address(str(ipaddress.ip_address(text)), 53)
    except ValueError:
        pass
    try:
        return parse_address(text)
    except InvalidInput:
        raise InvalidInput(
            f"{text!r} is not the address of a resolver", "Write IP or IP:PORT, for example 10.96.0.10 or [::1]:5353."
        ) from None


async def _hear(resolver: Address, name: str, zone: str, conf: ResolvConf) -> Heard:
    """Everything that a resolver is asked."""
    domains = searched_first(name, conf)
    answer, missing, unchecked, about_itself, *searched = await asyncio.gather(
        _twice(resolver, name),
        _twice(resolver, _new_name(zone)),
        # Another name than above: some resolvers keep no answer to a question that was asked both ways at once.
        ask(resolver, f"dns-version.{zone}", "TXT", flags=dns.flags.CD),
        # Whatever it says about itself, it says it without asking anybody.
        ask(resolver, "version.bind", "TXT", rclass="CH"),
        *(ask(resolver, f"{name}.{domain}") for domain in domains),
    )
    alive = any(reply.given for reply in (answer, missing, unchecked, about_itself))
    return Heard(answer, missing, unchecked, alive, tuple(zip(domains, searched, strict=True)))


async def _twice(resolver: Address, name: str) -> Reply:
    """The answer that may be kept longer, of the first and of the second, which comes from its cache."""
    first = await ask(resolver, name)
    again = await ask(resolver, name) if first.given else first
    return again if again.given and again.ttl >= first.ttl else first


def _new_name(zone: str) -> str:
    """A name that no cache has heard of."""
    return f"check-{secrets.token_hex(6)}.{zone}"


async def ask(
    address: Address, name: str, rtype: str = "A", tcp: bool = False, rclass: str = "IN", flags: int = 0
) -> Reply:
    """One question to one server."""
    query = dns.message.make_query(name, rtype, rclass, use_edns=0, payload=1232)
    query.flags |= flags
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    try:
        async with asyncio.timeout(_PATIENCE * 2):
            response = await send(query, address.host, timeout=_PATIENCE, port=address.port)
            if response.flags & dns.flags.TC and not tcp:
                response = await dns.asyncquery.tcp(query, address.host, timeout=_PATIENCE, port=address.port)
    except (TimeoutError, dns.exception.Timeout):
        return Reply(str(address), error=f"no answer within {_PATIENCE:g} s")
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return Reply(str(address), error=str(error) or type(error).__name__)
    return read_reply(address, response)


def read_reply(address: Address, response: dns.message.Message) -> Reply:
    """A response as `check` wants it."""
    soa = [rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
    records = response.answer or soa
    errors = [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]
    return Reply(
        server=str(address),
        rcode=dns.rcode.to_text(response.rcode()),
        answers=tuple(sorted(rdata.to_text() for rrset in response.answer for rdata in rrset)),
        ttl=min((rrset.ttl for rrset in records), default=0),
        soa=soa[0].name.to_text(omit_final_dot=True) if soa else "",
        authoritative=bool(response.flags & dns.flags.AA),
        extended_error=errors[0] if errors else None,
    )
