"""Make a federation's trust in a folder, once: its root, the controllers' authority and an admin credential."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.spiffe import admin_id, controller_name, parse_domain
from isthmus_kit.files import make_folder, read_file, write_file
from isthmus_kit.pki import (
    Authority,
    Subject,
    encode,
    encode_key,
    fingerprint,
    issue_leaf,
    make_key,
    make_root,
    sign_authority,
)

SCHEMA = 1
PASSPHRASE_VARIABLE = "ISTHMUS_ROOT_PASSPHRASE"
ADMIN_LIFETIME = timedelta(days=365)
CONTROLLER_AUTHORITY_LIFETIME = timedelta(days=5 * 365)

_SHORTEST_PASSPHRASE = 12
_LONGEST_NAME = 63


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The content of federation.json."""

    schema: int = SCHEMA
    name: str
    domain: str


class Federation(msgspec.Struct, frozen=True, kw_only=True):
    """A federation on disk: where its parts are."""

    name: str
    domain: str
    folder: Path
    root_fingerprint: str
    """SHA-256 of the root certificate (DER), lower-case hex."""

    @property
    def root_certificate(self) -> Path:
        return self.folder / "root.pem"

    @property
    def root_key(self) -> Path:
        """Encrypted; needed only to sign a cluster's CA."""
        return self.folder / "root.key"

    @property
    def passphrase_file(self) -> Path:
        """Exists when no passphrase was given: whoever has it and root.key has the root. Keep it elsewhere."""
        return self.folder / "root.passphrase"

    @property
    def authority_certificate(self) -> Path:
        return self.folder / "controller-ca.pem"

    @property
    def authority_key(self) -> Path:
        return self.folder / "controller-ca.key"

    def admin_files(self, admin: str) -> tuple[Path, Path]:
        """(certificate chain, key) of an admin."""
        return self.folder / "admins" / f"{admin}.pem", self.folder / "admins" / f"{admin}.key"


class NewFederation(Federation, frozen=True, kw_only=True):
    """A federation that was made now, with the credential of its first admin."""

    admin: str
    passphrase_generated: bool

    @property
    def admin_certificate(self) -> Path:
        return self.admin_files(self.admin)[0]

    @property
    def admin_key(self) -> Path:
        return self.admin_files(self.admin)[1]

    def notes(self) -> tuple[str, ...]:
        """What the person who made it should know, one sentence each."""
        if self.passphrase_generated:
            return (
                f"The root key is encrypted; its generated passphrase is in {self.passphrase_file} (0600).",
                f"To have the key safe at rest, keep that elsewhere and give its content in {PASSPHRASE_VARIABLE}.",
            )
        return (f"The root key is encrypted; controllers need its passphrase in {PASSPHRASE_VARIABLE} too.",)


def init_federation(
    folder: Path, name: str, domain: str, admin: str, *, passphrase: str | None = None, now: datetime | None = None
) -> NewFederation:
    """Make a federation in `folder`; raises InvalidInput when there is one already or when a name cannot be used.

    The root key is encrypted with `passphrase`, else with ISTHMUS_ROOT_PASSPHRASE, else with a generated one that is
    written beside it (0600). The description is written last: a folder without it is no federation.
    """
    moment = now or datetime.now(UTC)
    clean_domain, clean_name = parse_domain(domain), _parse_name(name)
    uri = str(admin_id(admin, clean_domain))
    given = passphrase if passphrase is not None else os.environ.get(PASSPHRASE_VARIABLE)
    secret = _parse_passphrase(given) if given is not None else secrets.token_urlsafe(32)
    _refuse_to_overwrite(folder)

    root = make_root(f"Isthmus root {clean_domain}", moment)
    made = NewFederation(
        name=clean_name,
        domain=clean_domain,
        folder=folder,
        root_fingerprint=fingerprint(root.certificate),
        admin=admin,
        passphrase_generated=given is None,
    )
    authority_key = make_key()
    authority = Authority(
        sign_authority(
            root,
            authority_key.public_key(),
            clean_domain,
            controller_name(clean_domain),
            moment,
            CONTROLLER_AUTHORITY_LIFETIME,
        ),
        authority_key,
    )
    # No dot in the common name: some stacks treat a dotted one as a DNS name, which the constraints would refuse.
    chain, key = issue_leaf(authority, Subject("Isthmus admin", uri), moment, ADMIN_LIFETIME, server=False)

    make_folder(folder)
    make_folder(folder / "admins")
    if made.passphrase_generated:
        write_file(made.passphrase_file, secret.encode() + b"\n")
    write_file(made.root_key, encode_key(root.key, secret.encode()))
    write_file(made.root_certificate, encode(root.certificate), 0o644)
    write_file(made.authority_key, encode_key(authority.key))
    write_file(made.authority_certificate, encode(authority.certificate), 0o644)
    write_file(made.admin_key, key)
    write_file(made.admin_certificate, chain, 0o644)
    description = Description(name=clean_name, domain=clean_domain)
    write_file(folder / "federation.json", msgspec.json.format(msgspec.json.encode(description)) + b"\n", 0o644)
    return made


def read_description(folder: Path) -> Description:
    """What federation.json in `folder` says; raises InvalidInput."""
    path = folder / "federation.json"
    raw = read_file(
        path, "the federation's description", "Run 'isthmus init' there first, or name the folder where it ran."
    )
    try:
        described = msgspec.json.decode(raw, type=Description)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{path} cannot be read: {error}", "Restore it from a backup.") from error
    if described.schema > SCHEMA:
        raise InvalidInput(f"{path} was written by a newer release (schema {described.schema})", "Update this program.")
    parse_domain(described.domain)
    return described


def read_passphrase(federation: Federation) -> bytes:
    """The passphrase of the root key: ISTHMUS_ROOT_PASSPHRASE, else the generated file; raises InvalidInput."""
    if given := os.environ.get(PASSPHRASE_VARIABLE):
        return given.encode()
    mend = f"Set {PASSPHRASE_VARIABLE}, or put root.passphrase back."
    return read_file(federation.passphrase_file, "the root key's passphrase", mend).strip()


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / "federation.json").exists():
        raise InvalidInput(
            f"there is already a federation in {folder}", "Use another folder, or the one that is there."
        )
    if (folder / "root.key").exists():
        raise InvalidInput(
            f"{folder} holds a root key but no federation.json: an 'init' was interrupted there, or the file was lost",
            "Remove the folder if nothing ever used it, or restore federation.json.",
        )


def _parse_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable() or "/" in text:
        raise InvalidInput(
            f"federation name {name!r} cannot be used", f"Use 1 to {_LONGEST_NAME} printable characters without '/'."
        )
    return text


def _parse_passphrase(given: str) -> str:
    if len(given) < _SHORTEST_PASSPHRASE:
        raise InvalidInput(
            "the root passphrase is too short",
            f"Use at least {_SHORTEST_PASSPHRASE} characters in {PASSPHRASE_VARIABLE}.",
        )
    return given
