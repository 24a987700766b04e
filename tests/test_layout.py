"""The house: imports point one way, folder names are ours alone, what is made from code is up to date."""

from __future__ import annotations

import ast
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("mappings", "stores", "identity", "taps", "targets", "console", "sandbox")
ALLOWED = {
    "mappings": {"mappings"},
    "stores": {"stores", "mappings"},
    "identity": {"identity", "mappings", "stores"},
    "taps": {"taps", "mappings", "stores"},
    "targets": {"targets", "mappings", "stores"},
    "sandbox": {"sandbox", "mappings"},
    "console": set(ROOMS),
}


def imports_of(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {other}"
        for path in (ROOT / room).rglob("*.py")
        for other in imports_of(path) - ALLOWED[room]
    }
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_distribution_provides_our_folder(room: str) -> None:
    owners = set(metadata.packages_distributions().get(room, [])) - {"onethread"}
    assert not owners


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager"])
def test_no_file_is_named_by_nothing(name: str) -> None:
    assert not [path for room in ROOMS for path in (ROOT / room).rglob(f"{name}.py")]


def test_pure_mappings_do_no_input_or_output() -> None:
    forbidden = {"requests", "sqlite3", "socket", "logging", "random", "os", "time", "subprocess"}
    for path in (ROOT / "mappings").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {(node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & forbidden, path.name


def test_meltano_yml_and_tables_are_what_the_code_makes() -> None:
    from console.generate import stale_files

    assert [path.name for path in stale_files()] == [], "run: make generate"


def test_every_registered_platform_has_its_parts_and_page() -> None:
    from mappings.platforms import load_platforms

    for slug, platform in load_platforms().items():
        assert platform.slug == slug
        for part in ("tap", "mapping", "webhook", "sender", "sandbox"):
            if getattr(platform, part):
                platform.load(part)
        assert (ROOT / "taps" / f"{slug}.md").exists()


def test_the_backoff_distribution_that_breaks_ours_is_not_locked() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [line for line in locked if line.startswith("backoff==")]
    assert [line for line in locked if line.startswith("python-backoff==")]
