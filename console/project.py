"""Starts a user's project, reads CRM settings from the environment, and says how things stand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mappings.keywords import keywords_as_csv
from mappings.settings import load_settings
from stores.database import Stores

_ROOT = Path(__file__).parent.parent
EDITABLE = {
    "identity/rules.yml": "identity-rules.yml",
    "targets/salesforce/fields.yml": "salesforce-fields.yml",
    "targets/hubspot/fields.yml": "hubspot-fields.yml",
}
"""Packaged defaults that a user may edit, and their names in the user's project."""


def start_project(folder: Path, crms: Sequence[str] = ("hubspot",)) -> list[str]:
    """Write the files of a new project with jobs for these CRMs; a file that exists is left alone. What was done."""
    from console.generate import env_example, meltano_yml

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, content in {"meltano.yml": meltano_yml(crms), ".env.example": env_example()}.items():
        lines.append(_write(folder / name, content))
    for source, name in EDITABLE.items():
        lines.append(_write(folder / name, (_ROOT / source).read_text(encoding="utf-8")))
    lines.append(_write(folder / "opt-out-words.csv", keywords_as_csv()))
    setups = " and ".join(f"`onethread setup {crm}`" for crm in crms)
    lines.append(f"next: copy .env.example to .env, fill in what you use, then {setups}")
    return lines


def _write(path: Path, content: str) -> str:
    if path.exists():
        return f"kept    {path}"
    path.write_text(content, encoding="utf-8")
    return f"written {path}"


def crm_settings(crm: str) -> Any:
    """The settings of a CRM's target from ``ONETHREAD_<CRM>_*``, for commands outside Meltano."""
    from console.generate import plugin_classes

    model = plugin_classes()[f"target-{crm}"].settings_model
    prefix = f"ONETHREAD_{crm.upper()}_"
    values = {name.removeprefix(prefix).lower(): value for name, value in os.environ.items() if name.startswith(prefix)}
    return load_settings(model, {name: value for name, value in values.items() if name in model.model_fields}, crm)


def status_lines(stores: Stores) -> list[str]:
    """How things stand, for a person."""
    from stores.archive import Archive
    from stores.archive.conversations import vanishing_requests
    from stores.deliveries import Deliveries
    from stores.outbox import Outbox
    from stores.parked import Parked

    free = shutil.disk_usage(stores.folder).free // 2**20
    outbox = ", ".join(f"{number} {state}" for state, number in sorted(Outbox(stores).counts().items())) or "empty"
    return [
        f"state:      {stores.folder} ({free} MiB free)",
        f"deliveries: {Deliveries(stores).count()}",
        f"archive:    {Archive(stores).high_water()} changes",
        f"outbox:     {outbox}",
        f"parked:     {Parked(stores).count()}",
        f"requests:   {len(vanishing_requests(stores, datetime.now(UTC)))} unanswered may vanish within 7 days",
    ]
