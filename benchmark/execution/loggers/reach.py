"""Whether W&B can be used: asked once for a sweep and again before each run, within `PATIENCE`."""

import base64
import json
import netrc
import os
import shlex
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.request.groups import LoggerSettings

PATIENCE = 5.0  # seconds


def decide(settings: LoggerSettings, folder: Path) -> tuple[LoggerSettings, str]:
    """The settings with the mode decided, and why runs are written offline in one sentence, else "".

    The mode is that asked for, else WANDB_MODE, else online where there is a key; offline where the service cannot be
    reached or refuses the key.
    """
    settings, why = _asked(settings)
    if settings.mode == "online" and (problem := ask()):
        settings, why = replace(settings, mode="offline"), f"W&B {problem}"
    if settings.mode != "offline":
        return settings, ""
    runs = f"{shlex.quote(str(folder))}/wandb/offline-run-*"
    return settings, f"{why}: runs are written offline; `wandb sync {runs}` uploads them later."


def still_online(settings: LoggerSettings) -> LoggerSettings:
    """The settings, offline where the service has gone since."""
    return replace(settings, mode="offline") if settings.mode == "online" and ask() else settings


def ask() -> str:
    """Why the service cannot be used, in words; "" if it can."""
    base = base_url()
    key = os.environ.get("WANDB_API_KEY") or _key_in_netrc(base)
    token = base64.b64encode(f"api:{key or ''}".encode()).decode()
    body = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{base}/graphql", body, headers), timeout=PATIENCE
        ) as answer:
            viewer = json.loads(answer.read()).get("data", {}).get("viewer")
    except urllib.error.HTTPError as error:
        return "refuses the key" if error.code in (401, 403) else f"answers {error.code}"
    except (OSError, ValueError, AttributeError) as error:
        return f"cannot be reached at {base} ({getattr(error, 'reason', None) or error})"
    return "" if viewer else "refuses the key"


def has_key() -> bool:
    """Whether a key was given or `wandb login` has kept one."""
    import wandb  # noqa: PLC0415  (half a second that a CSV run need not pay)

    return bool(os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False))


def base_url() -> str:
    """The address of the service."""
    import wandb  # noqa: PLC0415

    return str(wandb.setup().settings.base_url).rstrip("/")


def _asked(settings: LoggerSettings) -> tuple[LoggerSettings, str]:
    """The settings with a mode, and where it comes from."""
    if settings.mode:
        return settings, f"logger.mode={settings.mode}"
    mode: Any = os.environ.get("WANDB_MODE")
    if mode:
        return replace(settings, mode=mode), f"WANDB_MODE={mode}"
    return replace(settings, mode="online" if has_key() else "offline"), "no key for W&B was found"


def _key_in_netrc(base: str) -> str:
    """The key that `wandb login` has kept for a service."""
    try:
        found = netrc.netrc().authenticators(urllib.parse.urlsplit(base).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return ""
    return str(found[2]) if found else ""
