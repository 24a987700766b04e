"""Settings of Singer plugins: one frozen model per connector, its JSON schema, and readable errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mappings.errors import SettingsError
from mappings.schema import singer_schema


class PluginSettings(BaseModel):
    """What every tap, mapper and target of ours takes. Keys that the SDK owns are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state_url: str | None = Field(
        None, description="Where onethread keeps its state: sqlite:///folder. Default: ONETHREAD_STATE_URL, .onethread"
    )
    key_file: str | None = Field(
        None, description="Key file of the encrypting codec. Default: ONETHREAD_KEY_FILE, key.json in the state folder"
    )


Settings = TypeVar("Settings", bound=BaseModel)


def settings_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a settings model; unknown keys are refused."""
    return {**singer_schema(model), "additionalProperties": False}


def load_settings(model: type[Settings], values: Mapping[str, Any], part: str) -> Settings:
    """`values` as a `model`; the error names each field and what is wrong with it, never its value.

    An empty text counts as absent: Meltano hands one over where a variable is not set.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise SettingsError(describe_invalid(error, part)) from None


def environment_prefix(plugin: str) -> str:
    """How the variables of a plugin begin: ONETHREAD_WHATSAPP_ for all parts of WhatsApp."""
    return f"ONETHREAD_{plugin.partition('-')[2].upper()}_"


def tap_config_from_environment(
    tap_name: str, model: type[BaseModel], environment: Mapping[str, str], route: str | None = None
) -> dict[str, Any]:
    """A tap's settings from the variables that Meltano would give it.

    Args:
        tap_name: e.g. ``tap-whatsapp``, whose setting ``app_id`` is ONETHREAD_WHATSAPP_APP_ID.
        model: its settings.
        environment: variables; an empty one counts as absent.
        route: a further account, whose variables have its name before the setting's. What is not set for it is taken
            from the unnamed account, save secrets and what names the account (no default).

    Raises:
        SettingsError: a value is not of the setting's type.
    """
    prefix = environment_prefix(tap_name)
    config: dict[str, Any] = {"route": route} if route and "route" in model.model_fields else {}
    for name, node in singer_schema(model)["properties"].items():
        if name in {"state_url", "key_file", *config}:
            continue
        variables = [f"{prefix}{name.upper()}"]
        if route:
            of_account = node.get("secret") or model.model_fields[name].is_required() or name.endswith(("_id", "_sid"))
            variables = [f"{prefix}{route.upper()}_{name.upper()}", *([] if of_account else variables)]
        found = next((one for one in variables if environment.get(one)), None)
        if found is not None:
            config[name] = _typed(environment[found], node, found)
    return config


def _typed(text: str, node: Mapping[str, Any], variable: str) -> Any:
    """A variable's text as what the setting's schema says."""
    types = node.get("type", "string")
    wanted = next((one for one in ([types] if isinstance(types, str) else types) if one != "null"), "string")
    try:
        match wanted:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False,
                        "off": False}[text.strip().lower()]  # fmt: skip
            case "array" | "object":
                return json.loads(text)
    except (ValueError, KeyError):
        msg = f"{variable} is not a JSON {wanted}"
        raise SettingsError(msg) from None
    return text


def describe_invalid(error: ValidationError, part: str) -> str:
    """A validation error in one line per field, without the values (they may be secrets or personal)."""
    problems = [f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in error.errors()]
    return f"{part}: " + "; ".join(problems)
