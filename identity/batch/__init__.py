"""Who is who in everything that is stored, decided at once: ``onethread identity rebuild``. See batch.md."""

from mappings.errors import SettingsError

try:
    from identity.batch.run import Hub, Report, rebuild
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"duckdb", "numpy", "pyarrow", "scipy"}:
        raise
    msg = f"identity rebuild needs {error.name}: pip install 'onethread[batch]'"
    raise SettingsError(msg) from None

__all__ = ["Hub", "Report", "rebuild"]
