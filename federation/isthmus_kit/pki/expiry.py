"""Decide whether a certificate ends soon that nothing renews by itself, and say so."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from isthmus_kit.pki.checks import decode_certificates
from isthmus_kit.pki.identity import Identity

SOON = timedelta(days=30)
"""Time to plan what a person has to do."""

ROOT_MEND = "No command replaces a root: make a new federation and let its clusters join it before then."


class Lasting(msgspec.Struct, frozen=True):
    """A certificate that a person has to replace, and how."""

    kind: str  # for machines: "authority", "root"
    what: str  # for people
    ends: datetime
    mend: str


def lasting_of(identity: Identity, issuer: str, mend: str) -> tuple[Lasting, ...]:
    """What stands above a leaf: the authority that issued it, called `issuer`, and the roots that it believes."""
    authority = decode_certificates(identity.chain, "the own chain")[-1]
    roots = decode_certificates(identity.roots, "the roots")
    return (
        Lasting("authority", issuer, authority.not_valid_after_utc, mend),
        *(Lasting("root", "the federation's root", root.not_valid_after_utc, ROOT_MEND) for root in roots),
    )


def ending(certificates: Sequence[Lasting], now: datetime) -> str:
    """For people: which of them end within 30 days, and what to do; empty when none does."""
    return "; ".join(_sentence(one, now) for one in certificates if one.ends - now <= SOON)


def _sentence(one: Lasting, now: datetime) -> str:
    if one.ends <= now:
        return f"{one.what} expired on {one.ends:%Y-%m-%d}. {one.mend}"
    days = (one.ends - now).days
    left = f"in {days} days" if days > 1 else "tomorrow" if days else "within a day"
    return f"{one.what} expires on {one.ends:%Y-%m-%d}, {left}. {one.mend}"
