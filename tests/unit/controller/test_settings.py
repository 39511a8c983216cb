"""Settings that cannot work are refused with a sentence, and secrets are not shown."""

from pathlib import Path

import pytest

from isthmus_controller.settings import ControllerSettings, EtcdSettings, Listen, own_address
from isthmus_core.errors import InvalidInput


def test_a_controller_on_every_address_must_say_where_it_is_reached() -> None:
    everywhere = Listen("0.0.0.0", 15014)
    with pytest.raises(InvalidInput, match="--advertise HOST:PORT"):
        ControllerSettings(data_dir=Path(), admin=everywhere).check()
    ControllerSettings(data_dir=Path(), admin=everywhere, advertise_admin=("fed.example:15014",)).check()


def test_of_the_advertised_addresses_of_all_replicas_the_own_one_is_where_it_listens() -> None:
    second = Listen("10.0.0.2", 15014)
    assert own_address(second, ("10.0.0.1:15014", "10.0.0.2:15014")) == "10.0.0.2:15014"
    assert own_address(second, ("fed.example:15014", "spare.example:15014")) == "fed.example:15014"
    assert own_address(second, ()) == "10.0.0.2:15014"
    assert own_address(Listen("::1", 1), ("[::2]:1", "[::1]:1")) == "[::1]:1"


def test_the_password_of_etcd_is_never_shown() -> None:
    settings = ControllerSettings(data_dir=Path(), etcd=EtcdSettings(("https://e:2379",), user="u", password="secret"))
    assert "secret" not in repr(settings)


def test_an_address_of_version_6_is_written_in_brackets() -> None:
    assert str(Listen("::1", 15014)) == "[::1]:15014"
