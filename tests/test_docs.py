"""A new user finds it: every connector, setting, command and error is on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.generate import plugin_classes, settings_models
from mappings import errors

ROOT = Path(__file__).parent.parent
PAGES = [path for path in ROOT.rglob("*.md") if not {".venv", ".venvs", "node_modules", "fixtures"} & set(path.parts)]


@pytest.mark.parametrize("name", list(plugin_classes()))
def test_every_plugin_has_a_page_with_its_name(name: str) -> None:
    assert any(
        name in page.read_text(encoding="utf-8")
        for page in PAGES
        if page.name != "README.md" or "identity" in page.parts
    )


@pytest.mark.parametrize("page", sorted(settings_models()))
def test_every_setting_is_on_its_page(page: str) -> None:
    path = ROOT / page
    assert path.exists(), f"write {page}"
    text = path.read_text(encoding="utf-8")
    for title, model in settings_models()[page]:
        assert f"Settings of `{title}`" in text
        for name in model.model_fields:
            assert f"| `{name}` |" in text


@pytest.mark.parametrize("page", sorted(settings_models()))
def test_every_setting_says_what_it_is_for(page: str) -> None:
    for title, model in settings_models()[page]:
        silent = [name for name, field in model.model_fields.items() if not field.description]
        assert not silent, f"{title}: {silent}"


def test_every_error_is_in_the_tree_of_errors() -> None:
    tree = errors.__doc__ or ""
    ours = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.OneThreadError)
    ]
    assert [name for name in ours if name not in tree] == []


def test_the_readme_fits_one_screen_before_it_goes_into_detail() -> None:
    top = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert len(top.splitlines()) <= 40
    assert "make demo" in top
    assert "make test" in top


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_no_page_or_source_names_a_path_of_somebodys_machine() -> None:
    wrong = re.compile(r"(?:^|[\s\"'(`])/(?:work|root|home/\w+)/")
    found = [
        str(path.relative_to(ROOT))
        for path in [
            *PAGES,
            *(one for room in ("taps", "targets", "stores", "console") for one in (ROOT / room).rglob("*.py")),
        ]
        if wrong.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
