"""Settings of Singer plugins: one frozen model per connector, its JSON schema, and readable errors."""

from __future__ import annotations

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


def describe_invalid(error: ValidationError, part: str) -> str:
    """A validation error in one line per field, without the values (they may be secrets or personal)."""
    problems = [f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in error.errors()]
    return f"{part}: " + "; ".join(problems)
