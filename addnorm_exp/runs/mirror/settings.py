"""The user's W&B settings: flags, then environment variables, then the settings files of W&B's client.

They are read without the client, whose import takes a second. A value that this program interprets is checked here, before training; an
invalid one is a UserError.
"""

import configparser
import math
import netrc
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from addnorm_exp.errors import UserError, nearest, program

MODES = ("online", "offline", "disabled")
LATER = "later"  # no key and no mode: nothing is sent now, `main.py sync` uploads from the record
PROJECT = "addnorm_exp"
LOGIN = "set WANDB_API_KEY, or run `wandb login`"
# Seconds for which the client tries to open a run, and to send the rest of one. The client itself has variables with these names.
PATIENCE = {"WANDB_INIT_TIMEOUT": 20.0, "WANDB_FINISH_TIMEOUT": 60.0}
# What `wandb agent` sets for the run that it starts.
SWEEP_AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")

_LEGACY = {"dryrun": "offline", "run": "online"}
# Servers that share their keys. The client's default depends on its version.
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com", "forge.coreweave.com")
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")  # a JSON web token
_FORBIDDEN = "/\\#?%:"  # in the name of a project or an entity


@dataclass(frozen=True)
class Place:
    """Where runs go on W&B, from the flags. None: from the environment, else where the run already is, else the default."""

    project: str | None = None
    entity: str | None = None

    def of(self, ledger: Mapping[str, Any]) -> tuple[str, str | None]:
        """Project and entity for the run of this ledger (mirror.json); entity None is the user's own."""
        project = self.project or os.environ.get("WANDB_PROJECT") or ledger.get("project") or PROJECT
        return project, self.entity or os.environ.get("WANDB_ENTITY") or ledger.get("entity")


def mode_of(flag: str | None) -> str:
    """One of MODES or LATER. Raises UserError for an invalid mode, address, key or time-out, and for `online` without a key."""
    mode, source = _asked(flag)
    if mode == "disabled":
        return mode
    _check_server()
    for name in PATIENCE:
        patience(name)
    if mode == "offline":
        return mode
    if has_key():
        return "online"
    if mode == "online":
        raise UserError(
            f"{source}: there is no W&B API key; {LOGIN}, or omit the mode and upload later ({program()} sync)"
        )
    return LATER


def check_place(place: Place) -> None:
    """Raises UserError if W&B refuses the name of the project or of the entity."""
    named = {
        "--wandb_project": place.project,
        "--wandb_entity": place.entity,
        "WANDB_PROJECT": os.environ.get("WANDB_PROJECT"),
        "WANDB_ENTITY": os.environ.get("WANDB_ENTITY"),
    }
    for source, name in named.items():
        if name and (wrong := sorted(set(name) & set(_FORBIDDEN))):
            raise UserError(f"{source}={name}: W&B refuses {' '.join(wrong)} in a name; choose another one")
        if name and len(name) > 128:
            raise UserError(
                f"{source}={name:.20}…: W&B refuses names of more than 128 characters; choose a shorter one"
            )


def ask_for_server(purpose: str) -> None:
    """Prepares the client for `purpose`, an explicit request that needs the server and overrides WANDB_MODE. Call it before the client
    is imported. Raises UserError if there is no API key."""
    _check_server()
    if not has_key():
        raise UserError(f"{purpose}: there is no W&B API key; {LOGIN}")
    os.environ["WANDB_SILENT"] = "true"  # the lines are ours
    os.environ.pop("WANDB_MODE", None)


def has_key() -> bool:
    """Whether the client would find credentials, in its own order. Raises UserError if WANDB_API_KEY is not a key."""
    if key := os.environ.get("WANDB_API_KEY"):
        if not _is_key(key):
            raise UserError(
                "WANDB_API_KEY: this is not an API key (40 or more letters, digits, _ and -); copy it from W&B again, or unset it"
            )
        return True
    return (
        bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))
        or _is_key(_netrc())
        or _is_key(_file_settings().get("api_key"))
    )


def patience(name: str) -> float:
    """The seconds that the client's variable `name` sets."""
    text = os.environ.get(name)
    if not text:
        return PATIENCE[name]
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{name}={text}: expected a number of seconds, e.g. {name}={PATIENCE[name]:.0f}")
    return seconds


def _asked(flag: str | None) -> tuple[str | None, str]:
    """The requested mode and its source; None without a request."""
    if flag:
        return flag, f"--wandb={flag}"
    stated = {"WANDB_MODE": os.environ.get("WANDB_MODE"), "W&B's settings file: mode": _file_settings().get("mode")}
    for source, text in stated.items():
        if text:
            mode = _LEGACY.get(text.strip().lower(), text.strip().lower())
            if mode not in MODES:
                raise UserError(f"{source}={text}: unknown mode; {nearest(mode, MODES)}")
            return mode, f"{source}={text}"
    return None, ""


def _check_server() -> None:
    address = os.environ.get("WANDB_BASE_URL")
    if not address:
        return
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is not a number
        sound = False
    if not sound or any(letter.isspace() for letter in address):
        raise UserError(
            f"WANDB_BASE_URL={address}: this is not an address; write e.g. https://wandb.example.org, or unset it to use W&B's own server"
        )
    if parts.hostname in ("wandb.ai", "app.wandb.ai", "www.wandb.ai"):
        raise UserError(f"WANDB_BASE_URL={address}: this is W&B's website; unset it to use W&B's own server")


def _is_key(text: str | None) -> bool:
    """Whether this is an API key, by the client's rule."""
    if not text:
        return False
    secret = text.split("-", 1)[-1]
    return _TOKEN.fullmatch(text) is not None or (len(secret) >= 40 and re.fullmatch(r"[\w-]+", secret) is not None)


def _netrc() -> str | None:
    """The password for the server in the netrc file."""
    places = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [Path("~/.netrc"), Path("~/_netrc")]
    address = os.environ.get("WANDB_BASE_URL") or _file_settings().get("base_url")
    host = urlsplit(address).netloc if address else _HOSTS[0]
    try:
        path = next((path for path in (place.expanduser() for place in places) if path.exists()), None)
        entries = netrc.netrc(path) if path else None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return None
    logins = [entries.authenticators(name) for name in (_HOSTS if host in _HOSTS else (host,))] if entries else []
    return next((login[2] for login in logins if login and login[2]), None)


def _file_settings() -> dict[str, str]:
    """What `wandb login`, `wandb offline` and `wandb disabled` wrote. The current folder's settings override the user's."""
    home = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    beside = ".wandb" if Path(".wandb").exists() else "wandb"
    settings: dict[str, str] = {}
    for folder in (home, beside):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(folder).expanduser() / "settings")
            settings |= dict(parser["default"]) if parser.has_section("default") else {}
        except (OSError, RuntimeError, UnicodeDecodeError, configparser.Error):  # the client also treats it as empty
            continue
    return settings
