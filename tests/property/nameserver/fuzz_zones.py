"""Rules for what changes the zone: messages of the feed, and questions between changes."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import dns.edns
from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_dns.answering.answer import Responder
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.zone import reading
from isthmus_dns.zone.intake import apply_header, apply_services, mark
from isthmus_dns.zone.service import Service, read_service
from isthmus_dns.zone.zone import Zone
from isthmus_sync import WILDCARD, ZONE_HEADER, ZONE_SERVICE, SubscriberStream
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.wire import Response
from property.nameserver.fuzz_packets import well_formed
from property.nameserver.fuzz_servers import (
    CLIENT,
    FEATURES,
    NOW,
    SECRET,
    SERVICES,
    STRANGER,
    ZONES,
    endpoint,
    make_server,
)
from unit.nameserver.builders import HTTP, METRICS, SERIAL, header, headless, host, near, question, resources, service

# A zone that changes while it is asked.

_NAMES = (
    "web.shop.svc",
    "_http._tcp.web.shop.svc",
    "db.shop.svc",
    "db-1.east.db.shop.svc",
    "api.shop.svc",
    "x.shop.svc",
)
_FORMS: tuple[tuple[int | None, tuple[dns.edns.Option, ...]], ...] = (
    (None, ()),
    (1232, ()),
    (512, ()),
    (1232, (dns.edns.GenericOption(dns.edns.OptionType.COOKIE, Cookies(SECRET).judge(b"12345678", CLIENT, NOW)[1]),)),
    (1232, (dns.edns.ECSOption("10.1.2.0", 24),)),
    (1232, (dns.edns.ECSOption("10.2.0.0", 16),)),
)
_QUESTIONS = tuple(
    question(f"{name}.clusterset.local", rtype, edns, id=7, options=list(options)).to_wire()
    for name in _NAMES
    for rtype in ("A", "SRV")
    for edns, options in _FORMS
)
_FEW = (
    service("shop/web", ["10.1.2.3", "fd00::3"], [HTTP, METRICS]),
    headless("shop/db", [host("10.0.0.1", "db-1"), host("10.0.0.2", "db-1", "west")]),
    near("shop/api", [endpoint("10.9.0.1", "east"), endpoint("10.8.0.1", "west", "gcp", "us-east1", 1)]),
)
_STATES = (
    resources(_FEW),
    resources([service("shop/web", ["10.7.7.7"]), service("shop/x", ["10.7.7.8"])]),
    resources([headless("shop/web", [host("10.6.0.1", "db-1")]), headless("shop/db", [host("10.6.0.2", "db-1")])]),
    resources([near("shop/api", [endpoint("10.8.0.9", "west")]), near("shop/db", [endpoint("10.8.0.8", "east")])]),
)


def changes(data: bytes) -> None:
    """Questions between changes of the zone: the fast way never gives an answer that was true before a change."""
    server = make_server(features=FEATURES, services=_FEW)
    zone, now, serial, present = server.zone, NOW, SERIAL, set(_STATES[0])
    for octet in data[:60]:
        what, which = octet >> 5, octet & 0x1F
        if what == 0:
            state = _STATES[which % len(_STATES)]
            name = sorted(state)[which // len(_STATES) % len(state)]
            assert apply_services(zone, {name: state[name]}, ()) == {}
            present.add(name)
        elif what == 1 and present:
            name = sorted(present)[which % len(present)]
            apply_services(zone, {}, [name])
            present.discard(name)
        elif what == 2:
            serial += which
            apply_header(zone, {"zone": header(serial, stale=bool(which & 1))})
            if mark(zone, True, bool(which & 2)):
                server.freshen()
        elif what == 3:
            now = (now // 60 + which * which) * 60  # cookies that grow old are looked at once a minute
            server.tick(now)
        else:
            packet = _QUESTIONS[(octet & 0x7F) % len(_QUESTIONS)]
            truth = {client: server.respond_slowly(packet, False, client) for client in (CLIENT, STRANGER)}
            for _ in range(3):
                for client in (CLIENT, STRANGER):
                    assert server.respond(packet, False, client) == truth[client]
    for packet in _QUESTIONS[::3]:
        assert server.respond(packet, False, CLIENT) == server.respond_slowly(packet, False, CLIENT)
    server.take_asked()


# What the agent's zone feed brings.

_ZONE_BEFORE = resources([SERVICES[0], headless("shop/db", [host("10.0.0.1", "db-0")])])
_Known = Mapping[str, Mapping[bytes, object]]


def _known(zone: Zone) -> _Known:
    return {table: dict(rows) for table, rows in vars(zone).items() if isinstance(rows, dict)}


def feed(data: bytes) -> None:
    """Messages of a peer: each is taken in whole or refused with a reason, and taking it out again leaves nothing."""
    choice, body = data[0] % 3 if data else 0, data[1:]
    zone = Zone(ZONES)
    assert apply_services(zone, _ZONE_BEFORE, ()) == {}
    assert apply_header(zone, {"zone": header()}) == {}
    mark(zone, True, False)
    if choice == 0:
        _take_service(zone, _name_in(body), body)
    elif choice == 1:
        serial = zone.serial
        apply_header(zone, {"zone": body})
        assert 0 <= zone.serial < 1 << 32
        assert 0 <= (zone.serial - serial) & 0xFFFFFFFF < 1 << 31, "a serial only grows"
        _answers_hold(Responder(zone), {b""})
    else:
        changed = _told(body)
        for name, resource in changed.items():
            _take_service(zone, name, resource)


def _name_in(body: bytes) -> str:
    with suppress(DecodeError):
        message = pb.ZoneService.FromString(body)
        return f"{message.namespace}/{message.name}"
    return "shop/web"


def _told(body: bytes) -> dict[str, bytes]:
    """What a discovery response of the peer says, through the subscriber's rules."""
    subscriber = SubscriberStream({ZONE_HEADER: {WILDCARD}, ZONE_SERVICE: {WILDCARD}})
    subscriber.connect()
    try:
        update = subscriber.receive(Response.FromString(body))
    except (DecodeError, InvalidInput):
        return {}
    refused = dict.fromkeys(update.changed, "no")
    assert subscriber.answer(update, refused).response_nonce == update.nonce
    return {name: change.body for name, change in update.changed.items()} if update.type_url == ZONE_SERVICE else {}


def _read(read: Callable[[str, bytes], Service], name: str, body: bytes) -> Service | str:
    """What a reader of services makes of a message: a service, or its reason for refusing it."""
    try:
        return read(name, body)
    except InvalidInput as refusal:
        return str(refusal)


def _take_service(zone: Zone, name: str, body: bytes) -> None:
    assert _read(reading.read, name, body) == _read(read_service, name, body), "both readers understand it alike"
    before = _known(zone)
    refused = apply_services(zone, {name: body}, ())
    if refused:
        assert list(refused) == [name] and refused[name]
        assert _known(zone) == before, "what was refused changed nothing"
        return
    server = Responder(zone, FEATURES)
    server.tick(NOW)
    changed = {key for table, rows in _known(zone).items() for key in rows.keys() - before[table].keys()}
    _answers_hold(server, changed)
    assert apply_services(zone, {}, [name]) == {}
    assert apply_services(zone, _ZONE_BEFORE, ()) == {}
    assert _known(zone) == before, "what was taken out left something"


def _answers_hold(server: Responder, keys: set[bytes]) -> None:
    """Every question for these names is answered by a message that dnspython can read."""
    names = {key[:-4] if key[-4:-2] != b"\0\0" and key[-2:] == b"\0\1" else key for key in keys}
    origin = server.zone.apexes[0].origin
    for name in sorted({*names, b"\4_why" + origin, origin}, key=len)[-12:]:
        if not name.endswith(origin):
            continue
        for rtype in (1, 28, 33, 16, 255):
            packet = b"\0\7\0\0\0\1\0\0\0\0\0\0" + name + rtype.to_bytes(2, "big") + b"\0\1"
            for tcp in (False, True):
                response = server.respond(packet, tcp, CLIENT)
                assert response is not None
                well_formed(packet, response, tcp)
