"""Services that are asked for and that nobody offers: the signal for whoever could import them."""

from isthmus_dns.watching.missing import Wanted, in_vain, merge_wanted, wanted
from isthmus_dns.watching.sketch import HeavyHitters
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.intake import apply_services
from unit.nameserver.builders import ask, resources, responder, service

ZONE = "clusterset.local"


def test_services_that_are_asked_for_in_vain_are_named_whatever_name_of_them_was_asked() -> None:
    server = responder(service("shop/web"), specs=(ZoneSpec(), ZoneSpec("fed.example.com")))
    hitters = HeavyHitters(size=50, window=10.0)
    hitters.tick(0.0)
    for _ in range(10):
        ask(server, f"cart.shop.svc.{ZONE}")
        ask(server, "cart.shop.svc.fed.example.com", "AAAA")
        ask(server, f"_http._tcp.pay.shop.svc.{ZONE}", "SRV")
        # None of these is a missing service: one that is there, a port of it, names of other shapes and zones.
        for name in ("web.shop.svc", "_no._tcp.web.shop.svc", "shop.svc", "svc", "www", "x.y", "not_a.shop.svc"):
            ask(server, f"{name}.{ZONE}")
        ask(server, f"web.shop.svc.{ZONE}.cluster.local")
    hitters.add(in_vain(server.take_asked(), server.zone))
    hitters.tick(10.0)

    found = wanted(hitters.top(50), server.zone)
    assert found == [Wanted(2.0, "shop/cart"), Wanted(1.0, "shop/pay")]
    assert merge_wanted([found, found]) == [Wanted(4.0, "shop/cart"), Wanted(2.0, "shop/pay")]

    apply_services(server.zone, resources([service("shop/cart")]), ())
    assert wanted(hitters.top(50), server.zone) == [Wanted(1.0, "shop/pay")]
