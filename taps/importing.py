"""tap-import: what was written before onethread, or elsewhere, out of files: JSONL, CSV and mbox.

Lines and rows are records of the contract in `mappings.from_custom`; mails are read as `mappings.from_email` does. A
message has the same key whenever it is read, so that a file that is read again doubles nothing. The bookmark counts
the lines (rows, mails) of each file; a file that was replaced is read from its beginning.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mappings.contact_points import normalize_email
from mappings.errors import OneThreadError, PayloadError, SettingsError, UnknownShapeError
from mappings.from_custom import CustomContext, records_from_custom
from mappings.from_custom.columns import places_of, record_from_row
from mappings.from_email import CHANNEL as EMAIL
from mappings.from_email import EmailContext, own_address_of, records_from_email
from mappings.keywords import Keywords
from mappings.records import Consent, Evidence, Message, MessageChange, Receipt, Record
from mappings.settings import PluginSettings
from stores.parked import ParkedItem
from taps.base import Checkpoint, OneThreadTap, read_keywords
from taps.custom import Channel, Region
from taps.import_files import Format, Piece, Table, format_of, json_pieces, mail_pieces, values_of_row
from taps.webhooks import custom
from taps.webhooks.items import Item

_HEAD_BYTES = 4096


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # zoneinfo's own error is a KeyError
        msg = "must be the name of a time zone, e.g. Europe/Rome"
        raise ValueError(msg) from None
    return name


def _check_format(name: str) -> str:
    if name not in get_args(Format):
        msg = f"must be one of {', '.join(get_args(Format))}"
        raise ValueError(msg)
    return name


def _check_separator(text: str) -> str:
    if len(text) != 1 or text in '"\r\n':
        msg = "must be one character, and no quote or line end"
        raise ValueError(msg)
    return text


# Checked here and not in the JSON schema: Meltano hands over an empty text for what is not set.
FileFormat = Annotated[str, AfterValidator(_check_format)]
Separator = Annotated[str, AfterValidator(_check_separator)]
Timezone = Annotated[str, AfterValidator(_check_timezone)]


class ImportSettings(PluginSettings):
    """The settings of tap-import."""

    files: list[str] = Field(min_length=1, description="Files to read, in this order.")
    format: FileFormat | None = Field(
        None, description="Of all files: jsonl, csv or mbox. Default: by the end of each file's name."
    )
    channel: Channel | None = Field(
        None,
        description="The channel that the messages were on: a name of your own, or that of one that onethread knows. "
        "Not for mbox: that is email.",
    )
    account: str | None = Field(
        None,
        description="Ours on that channel, for records that name none; mbox: the mailbox's address. Default: the name "
        "of the channel.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='CSV: column of the file -> column as onethread calls it, e.g. {"E-Mail": "email", "Notes": "-"}; '
        "- leaves one out.",
    )
    separator: Separator | None = Field(
        None, description="CSV: between the values. Default: the one that the header has most of."
    )
    encoding: str = Field("utf-8", description="CSV: of the file, e.g. cp1252.")
    timezone: Timezone | None = Field(
        None, description="Of times without one, e.g. Europe/Rome. Default: such a time is an error."
    )
    time_format: str | None = Field(
        None, description="Of times that are not ISO 8601, as Python's strptime takes it, e.g. %d/%m/%Y %H:%M."
    )
    id_scope: str | None = Field(None, description="Where the customers' own ids are unique. Default: the channel.")
    default_region: Region | None = Field(None, description="Country of phone numbers without country code, e.g. GB.")
    own_addresses: list[str] = Field(
        default_factory=list,
        description="mbox: further addresses that are ours; mail from them is outbound. `@shop.example` stands for a "
        "whole domain.",
    )
    max_mail_bytes: int = Field(
        25 * 1024 * 1024, ge=1024, description="mbox: of a larger mail only the header is read."
    )
    keywords_file: str | None = Field(
        None, description="Your own list of opt-out and opt-in words (CSV). Default: the packaged list."
    )


class Recipe(BaseModel):
    """How to read the pieces of one file; kept with what is parked, so that it can be read again without the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format
    channel: str
    account: str
    header: list[str] = Field(default_factory=list)
    columns: dict[str, str] = Field(default_factory=dict)
    separator: str = ","
    timezone: str | None = None
    time_format: str | None = None
    id_scope: str | None = None
    default_region: str | None = None
    own_addresses: list[str] = Field(default_factory=list)

    @cached_property
    def places(self) -> list[str | None]:
        """See `mappings.from_custom.columns.places_of`."""
        return places_of(self.header, self.columns)

    def records_of(self, piece: Piece, file_name: str, keywords: Keywords) -> list[Record]:
        """The records of one piece; raises `PayloadError` that says what is wrong with it."""
        if piece.error is not None:
            raise piece.error
        raw_ref = f"import:{file_name}#{piece.line}"
        if self.format == "mbox":
            return self._records_of_mail(piece, raw_ref, keywords)
        context = CustomContext(
            channel=self.channel,
            account=self.account,
            received_at=None,
            raw_ref=raw_ref,
            id_scope=self.id_scope,
            default_region=self.default_region,
            timezone=ZoneInfo(self.timezone) if self.timezone else None,
            time_format=self.time_format,
            keywords=keywords,
            seen_by="import",
        )
        if self.format == "csv":
            record = record_from_row(values_of_row(piece.raw.decode(), self.separator), self.places)
            return records_from_custom(Item(0, "row", {"record": record}, ""), context)
        items = custom.split(piece.raw)
        if len(items) != 1 or piece.raw.startswith(b"["):
            msg = "the line is a list; write one record on each line"
            raise UnknownShapeError(msg)
        return records_from_custom(items[0], context)

    def _records_of_mail(self, piece: Piece, raw_ref: str, keywords: Keywords) -> list[Record]:
        context = EmailContext(
            account=self.account,
            own_addresses=frozenset(map(own_address_of, (self.account, *self.own_addresses))),
            folder="import",
            uid=piece.line,
            uidvalidity=0,
            internal_date=piece.arrived_at,
            size_bytes=piece.size_bytes,
            keywords=keywords,
        )
        return [
            record.model_copy(
                update={"raw_ref": raw_ref, **({"seen_by": "import"} if isinstance(record, Message) else {})}
            )
            for record in records_from_email(piece.raw, context)
        ]


class TapImport(OneThreadTap[ImportSettings]):
    """Reads files."""

    name = "tap-import"
    settings_model = ImportSettings
    record_models = (Message, MessageChange, Receipt, Consent, Evidence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pieces_read = 0
        self.parked_pieces = 0
        self.problems: list[str] = []

    @cached_property
    def keywords(self) -> Keywords:
        """The opt-out and opt-in words in force."""
        return read_keywords(self.settings.keywords_file, self.name)

    # Reading

    def read(self) -> Iterator[Record | Checkpoint]:
        """Replays first, then file after file, from where the last run ended in each."""
        paths = self._paths()
        yield from self.replay(("reader", self.name), self._replayed)
        positions: dict[str, dict[str, Any]] = dict(self.cursor.get("files", {}))
        total_bytes = max(1, sum(path.stat().st_size for path in paths.values()))
        read_bytes = 0
        for name, path in paths.items():
            with ExitStack() as stack:
                file, recipe, pieces = self._open(path, stack)
                for position, records in self._read_file(name, path, recipe, pieces, positions.get(name)):
                    yield from records
                    self.share_read = (read_bytes + file.tell()) / total_bytes
                    positions[name] = position
                    yield Checkpoint({"files": dict(positions)})
                    if self.stop_requested:
                        return
            read_bytes += path.stat().st_size

    def look(self) -> Iterator[tuple[Path, Piece, list[Record] | PayloadError]]:
        """Every piece with its records or what is wrong with it; nothing is parked and no store is opened."""
        for path in self._paths().values():
            with ExitStack() as stack:
                _, recipe, pieces = self._open(path, stack)
                for piece in pieces:
                    yield path, piece, self._outcome(recipe, piece, path.name)

    def _paths(self) -> dict[str, Path]:
        """Each file by the name that it has in the settings."""
        paths = {name: Path(name) for name in self.settings.files}
        for name, path in paths.items():
            if not path.is_file():
                msg = f"{self.name}: there is no file {name}"
                raise SettingsError(msg)
        return paths

    def _open(self, path: Path, stack: ExitStack) -> tuple[IO[bytes], Recipe, Iterator[Piece]]:
        settings = self.settings
        form = format_of(path, settings.format)
        channel, account = self._where_from(form)
        recipe = Recipe(
            format=form,
            channel=channel,
            account=account,
            timezone=settings.timezone,
            time_format=settings.time_format,
            id_scope=settings.id_scope,
            default_region=settings.default_region,
            own_addresses=settings.own_addresses,
        )
        try:
            file = stack.enter_context(path.open("rb"))
            if form == "mbox":
                return file, recipe, self._of_file(path, mail_pieces(file, settings.max_mail_bytes))
            if form == "jsonl":
                return file, recipe, self._of_file(path, json_pieces(file))
            table = Table(file, settings.encoding, settings.separator)
            changes = {"header": table.header, "columns": settings.columns, "separator": table.separator or ","}
            recipe = recipe.model_copy(update=changes)
            if recipe.header:
                self._log_columns(path, recipe)
            return file, recipe, self._of_file(path, table.pieces())
        except OSError as error:
            msg = f"{self.name}: {path} cannot be read: {error.strerror}"
            raise SettingsError(msg) from None
        except SettingsError as error:
            msg = f"{self.name}: {path}: {error}"
            raise SettingsError(msg) from None

    def _of_file(self, path: Path, pieces: Iterator[Piece]) -> Iterator[Piece]:
        try:
            yield from pieces
        except SettingsError as error:
            msg = f"{self.name}: {path}: {error}"
            raise SettingsError(msg) from None

    def _where_from(self, form: Format) -> tuple[str, str]:
        """Channel and account of a file's records."""
        settings = self.settings
        if form == "mbox":
            account = own_address_of(settings.account or "")
            if settings.channel not in {None, EMAIL} or normalize_email(account) is None:
                msg = f"{self.name}: mbox is mail: give the mailbox's address as `account`, and no other channel"
                raise SettingsError(msg)
            return EMAIL, account
        if settings.channel is None:
            msg = f"{self.name}: give the channel that the messages were on, e.g. forms"
            raise SettingsError(msg)
        account = settings.account or settings.channel
        return settings.channel, own_address_of(account) if settings.channel == EMAIL else account

    def _log_columns(self, path: Path, recipe: Recipe) -> None:
        kept = [one.partition(".")[2] for one in recipe.places if one and one.startswith("fields.")]
        if kept:
            self.logger.info("%s: kept as further fields: %s", path.name, ", ".join(kept))

    def _read_file(
        self, name: str, path: Path, recipe: Recipe, pieces: Iterator[Piece], saved: dict[str, Any] | None
    ) -> Iterator[tuple[dict[str, Any], list[Record]]]:
        """(bookmark, records) of every piece that the last run did not read."""
        position = self._position(path, recipe, saved)
        size_bytes = path.stat().st_size
        if position["size_bytes"] == size_bytes:
            self.logger.info("%s: read before", path.name)
            return
        position["size_bytes"] = None
        counts: Counter[str] = Counter()
        for piece in pieces:
            if piece.number <= position["pieces"]:
                continue
            outcome = self._outcome(recipe, piece, path.name)
            if isinstance(outcome, PayloadError):
                self._park(name, recipe, piece, outcome)
            counts["parked" if isinstance(outcome, PayloadError) else "read"] += 1
            self.pieces_read += 1
            yield {**position, "pieces": piece.number}, outcome if isinstance(outcome, list) else []
            position["pieces"] = piece.number
        yield {**position, "size_bytes": size_bytes}, []
        self.logger.info("%s: %d read, %d parked", path.name, counts["read"], counts["parked"])

    def _outcome(self, recipe: Recipe, piece: Piece, file_name: str) -> list[Record] | PayloadError:
        """The records of a piece, or what parks it. Nothing that a file holds makes this raise."""
        try:
            return recipe.records_of(piece, file_name, self.keywords)
        except PayloadError as error:
            return type(error)(f"{file_name}, {_unit(recipe.format)} {piece.line}: {error}")
        except OneThreadError:
            raise
        except Exception as error:  # noqa: BLE001 (one piece that a mapping did not foresee must not stop the rest)
            where = f"{file_name}, {_unit(recipe.format)} {piece.line}"
            return UnknownShapeError(f"{where}: the mapping failed with {type(error).__name__}")

    def _position(self, path: Path, recipe: Recipe, saved: dict[str, Any] | None) -> dict[str, Any]:
        """The bookmark in a file: that of the last run, if it is still the same file and is read in the same way."""
        head_bytes = saved["head_bytes"] if saved else min(_HEAD_BYTES, path.stat().st_size)
        with path.open("rb") as file:
            head = file.read(head_bytes)
        form = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()
        mark = self.stores.codec.fingerprint(f"import|{form}|{head.hex()}")
        if saved and saved["mark"] == mark and len(head) == head_bytes:
            return dict(saved)
        if saved:
            self.logger.info("%s: another file than before, or other settings: reading all of it", path.name)
            return self._position(path, recipe, None)
        return {"mark": mark, "head_bytes": head_bytes, "pieces": 0, "size_bytes": None}

    # Parking and replaying

    def _park(self, name: str, recipe: Recipe, piece: Piece, error: PayloadError) -> None:
        self.parked_pieces += 1
        payload = {
            "reader": self.name,
            "file": name,
            "line": piece.line,
            "recipe": recipe.model_dump(mode="json"),
            "arrived_at": piece.arrived_at.isoformat() if piece.arrived_at else None,
            "size_bytes": piece.size_bytes,
            "error": str(piece.error) if piece.error else None,
            "base64": base64.b64encode(piece.raw).decode(),
        }
        key = f"{name}|{piece.line}|{hashlib.sha256(piece.raw).hexdigest()}"
        self.park("import", key, error, payload, f"import:{Path(name).name}#{piece.line}")

    def _replayed(self, row: ParkedItem) -> Iterator[Record]:
        payload = row.payload
        recipe = Recipe.model_validate(payload["recipe"])
        piece = Piece(
            number=0,
            line=payload["line"],
            raw=base64.b64decode(payload["base64"]),
            error=PayloadError(payload["error"]) if payload["error"] else None,
            arrived_at=datetime.fromisoformat(payload["arrived_at"]) if payload["arrived_at"] else None,
            size_bytes=payload["size_bytes"],
        )
        outcome = self._outcome(recipe, piece, Path(payload["file"]).name)
        if isinstance(outcome, PayloadError):
            self._park(payload["file"], recipe, piece, outcome)
        else:
            yield from outcome


def _unit(form: Format) -> Literal["mail", "line"]:
    return "mail" if form == "mbox" else "line"


if __name__ == "__main__":
    TapImport.cli()
