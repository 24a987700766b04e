"""Writes what is made from code: `meltano.yml`, `.env.example`, the settings tables and the table of platforms.

``python -m console.generate`` writes, ``--check`` only says what differs; a test runs the check. Nobody copies settings
by hand.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from console.sending import PolicySettings
from mappings.platforms import RETIRED, load_platforms
from mappings.schema import singer_schema
from mappings.settings import environment_prefix

ROOT = Path(__file__).parent.parent
CRMS = ("hubspot", "salesforce", "tryton")
"""Those we have; the jobs of a project are for the ones it names, by default the first."""

_HEADER = "# Made by `python -m console.generate` from the settings models; do not edit the plugins here by hand.\n"


def plugin_classes() -> dict[str, Any]:
    """Every tap, mapper and target of this distribution by name, sorted."""
    scripts = metadata.entry_points(group="console_scripts")
    found = {}
    for entry in scripts:
        if entry.dist is not None and entry.dist.name == "onethread" and entry.value.endswith(".cli"):
            module, _, path = entry.value.partition(":")
            found[entry.name] = getattr(import_module(module), path.removesuffix(".cli"))
    return dict(sorted(found.items()))


def environment_name(plugin: str, setting: str) -> str:
    """The variable that a setting of a plugin shares with the rest of onethread: ``ONETHREAD_WHATSAPP_APP_SECRET``."""
    if setting in {"state_url", "key_file"}:
        return f"ONETHREAD_{setting.upper()}"
    return f"{environment_prefix(plugin)}{setting.upper()}"


def meltano_settings(plugin: str, model: type[BaseModel]) -> list[dict[str, Any]]:
    """The ``settings:`` of a plugin. Each comes from the variable that the rest of onethread reads: it is set once."""
    kinds = {"integer": "integer", "number": "decimal", "boolean": "boolean", "array": "array", "object": "object"}
    entries = []
    for name, node in singer_schema(model)["properties"].items():
        types = node.get("type", "string")
        first = next(one for one in ([types] if isinstance(types, str) else types) if one != "null")
        entry: dict[str, Any] = {"name": name, "kind": kinds.get(first, "string")}
        entry["value"] = f"${environment_name(plugin, name)}"
        if node.get("secret"):
            entry["sensitive"] = True
        entry["description"] = node.get("description", "")
        entries.append(entry)
    return entries


def meltano_project(crms: Sequence[str] = CRMS[:1]) -> dict[str, Any]:
    """The Meltano project: all plugins, and jobs for these CRMs."""
    classes = plugin_classes()
    extractors: list[dict[str, Any]] = []
    loaders: list[dict[str, Any]] = []
    for name, cls in classes.items():
        plugin = {"name": name, "namespace": name.replace("-", "_"), "executable": name}
        settings = {"settings": meltano_settings(name, cls.settings_model)}
        if name.startswith("tap-"):
            # Discovery starts every tap once more in every run (a fifth of a pipe's cost), so it is declared only where
            # a stream is selected.
            selects = ["catalog", "discover"] if name.partition("-")[2] in CRMS else []
            capabilities = {"capabilities": [*selects, "state", "about", "structured-logging"]}
            extractors.append(plugin | capabilities | settings)
        elif name.startswith("target-"):
            loaders.append(plugin | {"capabilities": ["about", "structured-logging"]} | settings)
    for crm in CRMS:
        for stream in ("contacts", "replies"):
            extractors.append({"name": f"tap-{crm}-{stream}", "inherit_from": f"tap-{crm}", "select": [f"{stream}.*"]})
    mapper = classes["map-identity"]
    pipes_out = [f"tap-archive target-{crm}" for crm in crms]
    return {
        "requires_meltano": ">=4.4,<5",
        "default_environment": "dev",
        "send_anonymous_usage_stats": False,
        "environments": [{"name": "dev"}, {"name": "staging"}, {"name": "prod"}],
        "plugins": {
            "extractors": extractors,
            "mappers": [
                {
                    "name": "map-identity",
                    "namespace": "map_identity",
                    "executable": "map-identity",
                    "settings": meltano_settings("map-identity", mapper.settings_model),
                    "mappings": [{"name": "identity", "config": {}}],
                }
            ],
            "loaders": loaders,
            "utilities": [
                {
                    "name": "onethread",
                    "namespace": "onethread",
                    "executable": "onethread",
                    "commands": {name: {"args": name} for name in ("send", "receive", "console", "status")},
                }
            ],
        },
        "jobs": [
            {"name": "contacts", "tasks": [f"tap-{crm}-contacts identity target-archive" for crm in crms]},
            {"name": "inbound", "tasks": ["tap-channels identity target-archive"]},
            {"name": "deliver", "tasks": pipes_out},
            {
                "name": "replies",
                "tasks": [
                    *(f"tap-{crm}-replies identity target-outbox" for crm in crms), "onethread:send", *pipes_out,
                ],
            },
        ],
        "schedules": [
            {"name": "contacts-hourly", "job": "contacts", "interval": "5 * * * *"},
            {"name": "inbound-every-minute", "job": "inbound", "interval": "* * * * *"},
            {"name": "deliver-every-minute", "job": "deliver", "interval": "* * * * *"},
            {"name": "replies-every-minute", "job": "replies", "interval": "* * * * *"},
        ],
    }  # fmt: skip


def meltano_yml(crms: Sequence[str] = CRMS[:1]) -> str:
    """`meltano_project` as text."""
    yaml = YAML()
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(meltano_project(crms), text)
    return _HEADER + text.getvalue()


def settings_models() -> dict[str, list[tuple[str, type[BaseModel]]]]:
    """Every settings model with the page that describes it: ``taps/whatsapp.md`` -> [(title, model), ...]."""
    pages: dict[str, list[tuple[str, type[BaseModel]]]] = {}
    for name, cls in plugin_classes().items():
        kind, _, slug = name.partition("-")
        page = {"tap": f"taps/{slug}.md", "target": f"targets/{slug}.md", "map": "identity/README.md"}[kind]
        pages.setdefault(page, []).append((name, cls.settings_model))
    pages["targets/outbox.md"].append(("onethread send", PolicySettings))
    for slug, platform in load_platforms().items():
        if platform.tap.partition(".")[0] != "taps":
            continue  # another package documents its own
        page = f"taps/{slug}.md"
        if platform.webhook:
            pages.setdefault(page, []).append(("onethread receive", platform.load("webhook").Settings))
        if platform.sender:
            pages.setdefault(page, []).append(("onethread send", platform.load("sender").settings_model))
    return pages


def settings_table(title: str, model: type[BaseModel]) -> str:
    """A model as a table for its page."""
    lines = [f"### Settings of `{title}`", "", "| setting | variable | default | what |", "|---|---|---|---|"]
    prefix = model.model_config.get("env_prefix")
    for name, field in model.model_fields.items():
        variable = environment_name(title, name) if prefix is None else f"{prefix}{name.upper()}"
        lines.append(f"| `{name}` | `{variable}` | {_default_text(field)} | {(field.description or '').strip()} |")
    return "\n".join(lines)


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "–"
    if hasattr(value, "get_secret_value"):
        return "–"
    return f"`{value}`" if value not in ("", [], {}, ()) else "–"


def platform_table() -> str:
    """The platforms by ability, for the README."""
    lines = ["| channel | read | reply | webhook | stand-in |", "|---|---|---|---|---|"]
    for slug, platform in load_platforms().items():
        if platform.tap.partition(".")[0] != "taps":
            continue
        lines.append(
            f"| [{platform.name}](taps/{slug}.md) | {platform.reads or 'yes'} | {platform.sends or '–'} |"
            f" {'yes' if platform.webhook else '–'} | {'yes' if platform.sandbox else '–'} |"
        )
    names, years = ", ".join(one.name for one in RETIRED), ", ".join(str(one.year) for one in RETIRED)
    lines.append(
        f"| [{names}](taps/import.md) | retired ({years}); history comes in by `onethread import` | – | – | – |"
    )
    return "\n".join(lines)


def command_table() -> str:
    """Every command of `onethread` with its first sentence, for the console's page."""
    import click

    from console.cli import main as root

    lines = ["| command | what it does |", "|---|---|"]

    def add(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                lines.append(f"| `{name}` | {command.get_short_help_str(200)} |")
            for part, child in sorted(command.commands.items()):
                add(child, f"{name} {part}")
        else:
            lines.append(f"| `{name}` | {command.get_short_help_str(200)} |")

    add(root, "onethread")
    return "\n".join(lines)


def env_example() -> str:
    """Every variable that onethread reads, for `.env`."""
    lines = ["# Copy to .env and fill in what you use. Meltano and onethread both read it.", ""]
    seen: set[str] = set()
    for page, models in sorted(settings_models().items()):
        block = []
        for title, model in models:
            prefix = model.model_config.get("env_prefix")
            for name, field in model.model_fields.items():
                variable = environment_name(title, name) if prefix is None else f"{prefix}{name.upper()}"
                if variable not in seen:
                    seen.add(variable)
                    block.append(f"# {(field.description or '').strip()}\n#{variable}=")
        if block:
            lines += [f"# --- {page} ---", *block, ""]
    return "\n".join(lines)


def replace_between(text: str, marker: str, content: str) -> str:
    """`text` with what stands between ``<!-- marker:begin -->`` and ``<!-- marker:end -->`` replaced."""
    pattern = re.compile(rf"(<!-- {marker}:begin -->\n).*?(<!-- {marker}:end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match.group(1)}{content}\n{match.group(2)}", text)


def generated_files() -> dict[Path, str]:
    """Every file that is made from code, with the content that it must have."""
    files = {ROOT / "meltano.yml": meltano_yml(), ROOT / ".env.example": env_example()}
    for page, models in settings_models().items():
        path = ROOT / page
        if path.exists():
            tables = "\n\n".join(settings_table(title, model) for title, model in models)
            files[path] = replace_between(path.read_text(encoding="utf-8"), "settings", tables)
    commands = ROOT / "console" / "README.md"
    files[commands] = replace_between(commands.read_text(encoding="utf-8"), "commands", command_table())
    readme = ROOT / "README.md"
    files[readme] = replace_between(readme.read_text(encoding="utf-8"), "platforms", platform_table())
    return files


def stale_files() -> list[Path]:
    """Files that differ from what code would make."""
    return [
        path for path, content in generated_files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]  # fmt: skip


def main(arguments: Iterable[str] | None = None) -> int:
    """Write the files, or with ``--check`` say which differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something differs")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    stale = stale_files()
    for path in stale:
        print(f"{'differs' if options.check else 'written'}: {path.relative_to(ROOT)}")
    if options.check:
        return 1 if stale else 0
    files = generated_files()
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
