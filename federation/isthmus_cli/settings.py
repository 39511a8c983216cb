"""Settings of the long-running commands: one definition gives flags, ISTHMUS_* variables, a file and the reference."""

import typing
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import click
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from isthmus_cli import values
from isthmus_core.errors import InvalidInput

LogLevel = typing.Literal["debug", "info", "warning", "error"]
HostPort = Annotated[str, AfterValidator(values.host_port)]
HostPorts = Annotated[str, AfterValidator(values.host_ports)]
IpPort = Annotated[str, AfterValidator(values.ip_port)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.split)]
"""Several values: a flag that may be repeated, a variable with blanks between them, a list in the file."""


class Options(BaseSettings):
    """Base: flags come first, then the environment, then the file, then the defaults written here."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_ignore_empty=True)
    section: ClassVar[str]
    file: ClassVar[Path | None] = None

    log_level: LogLevel = Field("info", description="How much to log.")
    log_format: typing.Literal["auto", "console", "json"] = Field(
        "auto", description="Log lines for people or for machines; auto decides by the terminal."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if cls.file is not None:
            sources.append(_Section(settings_cls, cls.file, cls.section))
        return tuple(sources)


class _Section(TomlConfigSettingsSource):
    """One table of the configuration file."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path, section: str) -> None:
        self._section = section
        super().__init__(settings_cls, path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:  # the library's own type for it is private
        content = _toml(file_path)
        if unknown := sorted(content.keys() - {"controller", "gateway", "dns"}):
            raise InvalidInput(
                f"{file_path} has an unknown table [{unknown[0]}]", "Known are [controller], [gateway] and [dns]."
            )
        section = content.get(self._section, {})
        if not isinstance(section, dict):
            raise InvalidInput(
                f"{file_path}: {self._section} is not a table", f"Write [{self._section}] on a line of its own."
            )
        return {str(k).replace("-", "_"): v for k, v in section.items()}


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        # Some editors put a mark of the byte order first, which TOML does not know.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {(error.strerror or '').lower()}", "Allow it to be read.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text", "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", "Mend it there: see docs/reference.md.") from None


SomeOptions = TypeVar("SomeOptions", bound=Options)


class ControllerOptions(Options):
    """`isthmus controller`."""

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_CONTROLLER_")
    section: ClassVar[str] = "controller"

    data_dir: Path | None = Field(None, description="Folder written by 'isthmus init'. Default: <home>/controller.")
    listen: HostPort = Field("127.0.0.1:15010", description="HOST:PORT where gateways connect (gRPC, mutual TLS).")
    admin_listen: HostPort = Field("127.0.0.1:15014", description="HOST:PORT of the admin API (HTTPS).")
    advertise: HostPorts | None = Field(
        None,
        description="HOST:PORT[,...] of the admin API as joining clusters reach it. Default: admin-listen.",
    )
    advertise_grpc: HostPorts | None = Field(
        None,
        description="HOST:PORT[,...] where gateways reach the controllers. Default: listen.",
    )
    embedded_etcd: bool | None = Field(
        None, description="Run a single etcd inside the data directory. Default: yes, unless --etcd is given."
    )
    etcd: str | None = Field(None, description="HOST:PORT[,...] of the members of an etcd of your own.")
    etcd_ca: Path | None = Field(
        None, description="CA certificate of that etcd (PEM). Without it the connection is refused."
    )
    etcd_cert: Path | None = Field(None, description="Client certificate for that etcd (PEM).")
    etcd_key: Path | None = Field(None, description="Key of the client certificate (PEM).")
    etcd_user: str | None = Field(None, description="User of that etcd.")
    etcd_password_file: Path | None = Field(
        None, description="File with that user's password. ISTHMUS_CONTROLLER_ETCD_PASSWORD may hold it instead."
    )
    session_ttl: int = Field(5, ge=1, le=300, description="Seconds without a gateway until its session counts as lost.")


class GatewayOptions(Options):
    """`isthmus gateway`."""

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_GATEWAY_")
    section: ClassVar[str] = "gateway"

    cluster: str | None = Field(None, description="Cluster that joined from this machine. Default: the only one.")
    data_dir: Path | None = Field(
        None, description="Folder written by 'isthmus cluster join'. Default: <home>/clusters/<cluster>."
    )
    services: Path | None = Field(
        None, description="Folder of Service and ServiceExport documents. Default: <data-dir>/services."
    )
    id: Annotated[str, AfterValidator(values.gateway_id)] | None = Field(
        None, description="Name of this gateway within its cluster, a DNS label. Default: from the host name."
    )
    listen: IpPort = Field("0.0.0.0:15443", description="IP:PORT where other clusters' gateways connect (mutual TLS).")
    advertise: IpPort | None = Field(
        None,
        description="IP:PORT under which other clusters reach it. Default: where it listens, or the address that leads "
        "to the controllers when it listens everywhere.",
    )
    vip_range: Annotated[str, AfterValidator(values.network)] = Field(
        "127.80.0.0/16", description="Addresses for imported services; they must be local to this machine."
    )
    envoy_concurrency: int = Field(1, ge=1, le=256, description="Worker threads of Envoy.")
    web_listen: HostPort = Field("127.0.0.1:15020", description="HOST:PORT of /healthz, /readyz and /metrics.")
    controllers: HostPorts | None = Field(
        None, description="HOST:PORT[,...] of the controllers' gRPC instead of those learnt when joining."
    )


class DnsOptions(Options):
    """`isthmus dns`."""

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_DNS_")
    section: ClassVar[str] = "dns"

    cluster: str | None = Field(
        None, description="Cluster whose zone is served. Default: the only one that joined from this machine."
    )
    data_dir: Path | None = Field(
        None, description="Folder of that cluster's gateway. Default: <home>/clusters/<cluster>."
    )
    listen: Annotated[str, AfterValidator(values.dns_listen)] = Field(
        "127.0.0.1:53", description="IP:PORT[,...] to answer on, UDP and TCP."
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port.")
    ttl: int = Field(5, ge=0, le=86400, description="Time to live of answers, in seconds.")
    zone: Annotated[Texts, AfterValidator(values.zones)] = Field(
        ("clusterset.local",),
        description="ZONE[=NAME[@IP...],...] to answer for, with its name servers and their addresses, such as "
        "fed.example.com=ns1.fed.example.com@192.0.2.1. May be repeated; name clusterset.local too to keep it.",
    )
    contact: Annotated[str, AfterValidator(values.mailbox)] | None = Field(
        None, description="USER@DOMAIN of whoever looks after the zones, for SOA records. Default: hostmaster@<zone>."
    )
    server_id: Annotated[str, AfterValidator(values.server_id)] | None = Field(
        None, description="Name of this server for clients that ask (NSID, _why.<zone>). Default: the host name."
    )
    stale_after: float = Field(
        60.0, gt=0, le=31_536_000, description="Seconds without the gateway until answers are marked stale (RFC 8914)."
    )
    rate_limit: int = Field(
        1000,
        ge=0,
        le=1_000_000_000,
        description="Answers a second to each /24 or /56 that is not private and has no cookie; 0 for no limit.",
    )
    cookie_secret_file: Path | None = Field(
        None,
        description="File with 32 hexadecimal digits, the same for all servers behind one address (RFC 9018). "
        "Default: a new secret at every start.",
    )
    subnet_resolver: Annotated[Texts, AfterValidator(values.resolvers)] = Field(
        (),
        description="IP[/LENGTH] of resolvers that may say for which client they ask (RFC 7871). May be repeated.",
    )
    subnet_locality: Annotated[Texts, AfterValidator(values.places)] = Field(
        (),
        description="NETWORK=PROVIDER/REGION/ZONE where the clients of those resolvers are, such as "
        "10.1.0.0/16=aws/eu-west-1/a. May be repeated.",
    )
    tcp_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="TCP connections of one worker; then the longest silent one has to go."
    )
    tcp_per_client: int = Field(200, ge=1, le=1_000_000, description="TCP connections of one client to one worker.")
    tcp_idle: float = Field(
        10.0, gt=0, le=3600, description="Seconds that a TCP connection may stay without a whole query."
    )
    dnstap: Annotated[Path | None, AfterValidator(values.socket_path)] = Field(
        None, description="Unix socket of a dnstap receiver that is told every query and answer."
    )
    log_queries: int = Field(0, ge=0, le=1_000_000_000, description="Log every n-th query; 0 for none.")
    web_listen: HostPort | None = Field(
        None, description="HOST:PORT of /healthz, /readyz, /metrics, /top and /missing. Default: none."
    )


ALL: tuple[type[Options], ...] = (ControllerOptions, GatewayOptions, DnsOptions)


def parts(text: str | None) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def flag(name: str) -> str:
    """`etcd_ca` as a flag: `--etcd-ca`."""
    return "--" + name.replace("_", "-")


def variable(options: type[Options], name: str) -> str:
    """The environment variable of a field."""
    return str(options.model_config.get("env_prefix", "")) + name.upper()


def load(options: type[SomeOptions], config: Path | None, flags: dict[str, Any]) -> SomeOptions:
    """The settings from flags (None or () means not given), environment and file.

    What a flag or a variable says wrongly is a wrong call (exit status 2); the rest, above all what stands in the file,
    is an InvalidInput. Both are one sentence with its mend.
    """
    if config is not None and not config.is_file():
        raise InvalidInput(f"there is no configuration file {config}", "Give an existing TOML file with --config.")
    bound = type(options.__name__, (options,), {"file": config, "__module__": options.__module__})
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        return typing.cast(SomeOptions, bound(**given))
    except ValidationError as error:
        raise _invalid(options, error, given, config) from None
    except ValueError as error:
        raise InvalidInput(f"{config or 'the settings'} cannot be read: {error}") from None


def _invalid(
    options: type[Options], error: ValidationError, given: dict[str, Any], config: Path | None
) -> InvalidInput | click.UsageError:
    import os

    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        from difflib import get_close_matches

        near = get_close_matches(name, list(options.model_fields), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "See docs/reference.md."
        return InvalidInput(f"{config}: [{options.section}] has an unknown entry {name!r}", hint)
    sentence, mend = values.explain(first, options.model_fields[name])
    if name in given:
        return click.UsageError(f"{flag(name)}: {sentence}. {mend}".strip())
    if os.environ.get(variable(options, name)):
        return click.UsageError(f"{variable(options, name)}: {sentence}. {mend}".strip())
    return InvalidInput(f"{config}: [{options.section}] {name}: {sentence}", mend)
