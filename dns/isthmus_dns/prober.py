"""Ask servers and resolvers what `check` judges."""

import asyncio
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from isthmus_dns.addresses import Address, parse_address
from isthmus_dns.check import Finding, Probes, Reply, diagnose, parse_resolv_conf

_PATIENCE = 2.0


async def check(
    server: str, name: str, zone: str = "clusterset.local", resolv_conf: Path = Path("/etc/resolv.conf")
) -> list[Finding]:
    """What is wrong on the way from the resolvers of this machine to `name`; `server` is IP:PORT of `isthmus dns`."""
    address = parse_address(server)
    text = await asyncio.to_thread(resolv_conf.read_text) if resolv_conf.exists() else ""
    conf = parse_resolv_conf(text)
    asked = name if name.rstrip(".").endswith(zone) else f"{name}.svc.{zone}"
    udp, tcp, version, *by_resolver = await asyncio.gather(
        ask(address, asked),
        ask(address, asked, tcp=True),
        ask(address, f"dns-version.{zone}", "TXT"),
        *(ask(Address(resolver, 53), asked) for resolver in conf.servers),
    )
    return diagnose(Probes(zone, asked, udp, tcp, version, tuple(by_resolver), conf))


async def ask(address: Address, name: str, rtype: str = "A", tcp: bool = False) -> Reply:
    """One question to one server."""
    query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    try:
        async with asyncio.timeout(_PATIENCE * 2):
            response = await send(query, address.host, timeout=_PATIENCE, port=address.port)
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
