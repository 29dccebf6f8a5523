"""Settings: read once from the environment into one frozen model, then passed by hand. The only reader of `os.environ`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from shared.errors import SettingsError
from shared.model import RateLimit

PAPRIKA_FREE = "https://api.coinpaprika.com/v1"
GECKO_FREE = "https://api.coingecko.com/api/v3"
MOST_CALLS = 100_000
LONGEST_PERIOD = 366 * 24 * 3600


def read_rate(value: Any) -> Any:
    """Turn `30/60` into a rate limit of 30 calls in 60 seconds. Raises ValueError on anything else."""
    if not isinstance(value, str):
        return value
    parts = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*", value)
    if not parts or not 1 <= float(parts[1]) <= MOST_CALLS or not 0 < float(parts[2]) <= LONGEST_PERIOD:
        raise ValueError(f"expected CALLS/SECONDS, for example 30/60, at most {MOST_CALLS} calls and {LONGEST_PERIOD} seconds")
    return RateLimit(int(parts[1]), float(parts[2]))


def read_address(value: str) -> str:
    """Accept an http or https address. Raises ValueError without repeating it: it may hold a password."""
    try:
        url = urlsplit(value)
        sound = url.scheme in ("http", "https") and url.hostname and url.port != 0 and re.search(r"[\s\x00-\x1f\x7f]", value) is None
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("expected an address that starts with http:// or https://")
    return value


def read_url(value: str) -> str:
    """Accept an address that paths are added to: without a trailing slash. Raises ValueError on anything else."""
    return read_address(value).rstrip("/")


def read_host(value: str) -> str:
    """Accept the name or the numeric address of a host, alone. Raises ValueError on anything else."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", value):
        raise ValueError("expected hosts without scheme, port and path, for example feeds.lan,10.0.0.7")
    return value.lower()


def read_origin(value: str) -> str:
    """Accept the origin of a page as browsers send it. Raises ValueError on anything else, `*` too."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?", value):
        raise ValueError("expected origins such as https://app.example, without a path")
    return value


def read_list(value: Any) -> Any:
    """Split a comma-separated text into its parts, blanks left out. Raises ValueError when nothing is left."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise ValueError("expected at least one, separated by commas")
    return parts


def read_dsn(value: str) -> str:
    """Accept a Postgres address. Raises ValueError without repeating it: it may hold a password."""
    if value.startswith(("postgresql://", "postgres://")):
        if value.partition("?")[0].count("@") > 1:  # quirk: libpq ends the password at the first @ and takes the rest for a host
            raise ValueError("expected a password with @ written as %40")
    elif not re.match(r"[a-z_]+\s*=", value):
        raise ValueError("expected a Postgres address such as postgresql://user@host:5432/name")
    return value


Rate = Annotated[RateLimit | None, BeforeValidator(read_rate)]
Url = Annotated[str, BeforeValidator(read_url)]
Paths = Annotated[tuple[str, ...], BeforeValidator(read_list)]
Urls = Annotated[tuple[Annotated[str, BeforeValidator(read_address)], ...], BeforeValidator(read_list)]
Hosts = Annotated[tuple[Annotated[str, BeforeValidator(read_host)], ...], BeforeValidator(read_list)]
Origins = Annotated[tuple[Annotated[str, BeforeValidator(read_origin)], ...], BeforeValidator(read_list)]
Dsn = Annotated[SecretStr, BeforeValidator(read_dsn)]
SecretUrl = Annotated[SecretStr, BeforeValidator(read_url)]


class Settings(BaseModel):
    """Every setting under its variable's name in lower case. Secrets hide in any repr."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="ignore")

    database_url: Dsn | None = None
    api_database_url: Dsn | None = None
    kasparro_home: Path = Path("~/.kasparro")
    coinpaprika_base_url: Url = PAPRIKA_FREE
    coinpaprika_api_key: SecretStr | None = None
    coingecko_base_url: Url = GECKO_FREE
    coingecko_api_key: SecretStr | None = None
    coingecko_max_pages: int = Field(default=4, ge=0)
    coinpaprika_rate_limit: Rate = None
    coingecko_rate_limit: Rate = None
    rss_rate_limit: Rate = None
    csv_paths: Paths = ("data/*.csv",)
    rss_feed_urls: Urls = ("https://cointelegraph.com/rss",)
    etl_batch_size: int = Field(default=5000, ge=1, le=100_000)
    etl_max_invalid_ratio: float = Field(default=0.2, ge=0, le=1)
    etl_allowed_hosts: Hosts | None = None
    etl_drift_policy: Literal["warn", "quarantine", "freeze"] = "warn"
    etl_fail_after_n_records: int | None = Field(default=None, ge=0)
    chaos_mode: bool = False
    chaos_seed: int | None = None
    etl_interval_minutes: int = Field(default=360, ge=1)
    api_key: SecretStr | None = None
    api_rate_limit: Rate = None
    api_trusted_proxies: int = Field(default=0, ge=0, le=10)
    api_cors_origins: Origins | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "console", "json"] = "auto"
    healthcheck_ping_url: SecretUrl | None = None

    @property
    def home(self) -> Path:
        """The folder of the embedded database, with `~` resolved. Raises SettingsError where nobody knows whose home that is."""
        try:
            return self.kasparro_home.expanduser()
        except RuntimeError:
            raise SettingsError([f"KASPARRO_HOME: the home of {self.kasparro_home.parts[0]} is not known: name a folder"]) from None


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every setting from `environ` (default: the process's). Raises SettingsError naming all variables at fault."""
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    problems: list[str] = []
    for field in Settings.model_fields:
        name = field.upper()
        if environ.get(name, "").strip():
            values[field] = environ[name].strip()
        elif environ.get(f"{name}_FILE"):
            try:
                values[field] = Path(environ[f"{name}_FILE"]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{name}_FILE: cannot be read ({type(error).__name__}): name a readable text file, or unset it")
    values = {field: value.upper() if field == "log_level" else value for field, value in values.items() if value}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        problems += [
            f"{str(error['loc'][0]).upper()}: {explain(error)}" for error in invalid.errors(include_input=False, include_url=False)
        ]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def secret_files(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """The files that settings are taken from, by the name of the setting."""
    environ = os.environ if environ is None else environ
    names = [field.upper() for field in Settings.model_fields]
    return {name: Path(environ[f"{name}_FILE"]) for name in names if environ.get(f"{name}_FILE") and not environ.get(name, "").strip()}


def explain(error: Any) -> str:
    """Say what pydantic found wrong, without the value: it may be a secret."""
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return message if message.startswith("expected") else f"expected {message}"
