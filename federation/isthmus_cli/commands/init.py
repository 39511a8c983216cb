"""`isthmus init`: make a federation in a folder."""

from pathlib import Path

import click

from isthmus_cli.anywhere import pasted
from isthmus_cli.api import ADMIN_ADDRESS, listen_flags, parse_address
from isthmus_cli.home import AdminConfig, controller_folder, find_home, home_option, write_config
from isthmus_core.errors import InvalidInput


@click.command()
@home_option
@click.option("--domain", required=True, help="DNS name of the federation, for example fed.example.com.")
@click.option("--name", default=None, help="Name of the federation.  [default: the first label of the domain]")
@click.option("--admin", default="admin", show_default=True, help="Name on the admin credential.")
@click.option(
    "--controller",
    "controllers",
    default=ADMIN_ADDRESS,
    show_default=True,
    metavar="HOST:PORT[,...]",
    help="Where the admin API of the controllers will be.",
)
def init(home: Path | None, domain: str, name: str | None, admin: str, controllers: str) -> None:
    """Make a federation: its trust root, the controller's authority, an admin credential and the configuration.

    Nothing runs yet afterwards; the last lines say what to do next. Keep the folder: it holds the root key.
    """
    from isthmus_controller.trust import init_federation

    folder = find_home(home)
    if (folder / "config.toml").exists():
        raise InvalidInput(f"there is already a federation in {folder}", "Use another folder with --home.")
    addresses = tuple(part.strip() for part in controllers.split(",") if part.strip())
    if not addresses:
        raise InvalidInput("no controller is named", "Give its address with --controller HOST:PORT, or leave it out.")
    for address in addresses:
        parse_address(address, 15014)
    place = controller_folder(folder)
    made = init_federation(place, name or domain.partition(".")[0].lower(), domain, admin)
    config = write_config(
        folder,
        AdminConfig(
            addresses, f"controller.{made.domain}", made.root_certificate, made.admin_certificate, made.admin_key
        ),
    )
    click.echo(f"Made federation {made.name} ({made.domain}) in {folder}")
    click.echo(f"  trust root         {made.root_certificate}  SHA-256 {made.root_fingerprint[:16]}...")
    click.echo(f"  admin credential   {made.admin_certificate}")
    click.echo(f"  configuration      {config}")
    for note in made.notes():
        click.echo(note)
    click.echo(pasted(f"Next: run 'isthmus controller{listen_flags(addresses)}',"))
    click.echo(pasted("then run 'isthmus cluster register NAME --locality provider/region/zone'."))
