"""The `onethread` command. Each command imports what it needs when it runs: `--help` stays fast."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from console.identity_cli import identity
from mappings.errors import OneThreadError
from stores.database import Stores


def _ours(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an error of ours into one line and exit code 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from pydantic import ValidationError
        from pydantic_settings.exceptions import SettingsError as UnreadableSettingError

        from mappings.settings import describe_invalid

        try:
            return command(*args, **kwargs)
        except ValidationError as error:
            raise click.ClickException(describe_invalid(error, f"settings of {error.title}")) from None
        except UnreadableSettingError as error:  # a list or table that is not JSON; it names the field, not the value
            raise click.ClickException(str(error)) from None
        except OneThreadError as error:
            message = f"{type(error).__name__}: {error}"
            raise click.ClickException(message) from None

    return wrapped


def _open_stores() -> Stores:
    try:
        return Stores()
    except OSError as error:
        message = f"the state folder cannot be used ({error.strerror}: {error.filename}); see ONETHREAD_STATE_URL"
        raise click.ClickException(message) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onethread")
@click.option(
    "--log-level", default="INFO", show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False), help="What to log.",
)  # fmt: skip
def main(log_level: str) -> None:
    """One customer, one thread: messaging channels and the CRM in step, both ways.

    State lives where ONETHREAD_STATE_URL says (default: .onethread in this folder).
    """
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    os.umask(0o077)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@main.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--crm", "crms", multiple=True, default=("hubspot",), show_default=True,
    type=click.Choice(["hubspot", "salesforce", "tryton"]), help="The CRM of the jobs; may be repeated.",
)  # fmt: skip
@_ours
def init(folder: Path, crms: Sequence[str]) -> None:
    """Start a project in FOLDER: meltano.yml, .env.example, and the rules that you may edit."""
    from console.project import start_project

    for line in start_project(folder, crms):
        click.echo(line)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; TLS belongs in front.")
@click.option("--port", default=8480, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--on-delivery", metavar="JOB", multiple=True, help="Run this job when something arrives (debounced).")
@_ours
def receive(host: str, port: int, on_delivery: Sequence[str]) -> None:
    """Take webhooks at /webhooks/<platform>: verify, store, then answer 200."""
    from console.on_delivery import JobStarter
    from taps.webhooks.receiver import serve

    starter = JobStarter(list(on_delivery)) if on_delivery else None
    serve(_open_stores(), host=host, port=port, on_delivery=starter.notice if starter else None)


@main.group()
def receiver() -> None:
    """Look after what the receiver keeps. It runs with `onethread receive`."""


@receiver.command("forget")
@click.argument("platform")
@click.argument("route")
@click.argument("reader")
@_ours
def receiver_forget(platform: str, route: str, reader: str) -> None:
    """Keep deliveries no longer for READER, a tap that has stopped for good; the receiver's log names all three."""
    from datetime import UTC, datetime

    from stores.positions import Positions

    positions = Positions(_open_stores())
    if not positions.forget(platform, route, reader):
        known = [" ".join(one[:3]) for one in positions.confirmed(datetime.now(UTC))]
        message = f"{platform} {route} {reader} is not known; there are: {', '.join(known) or 'none'}"
        raise click.ClickException(message)
    click.echo(f"{platform}/{route} waits no longer for {reader}")


@main.command()
@_ours
def send() -> None:
    """Send the queued replies, once each; settle those whose outcome is not known."""
    from console.sending import build_dispatcher

    try:
        summary = build_dispatcher(_open_stores()).run()
    except TimeoutError:
        click.echo("another `onethread send` is at work; nothing to do")
        return
    click.echo(str(summary))
    for problem in summary.problems:
        click.echo(problem, err=True)
    if summary.problems:
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("job", nargs=-1, required=True)
@_ours
def run(job: Sequence[str]) -> None:
    """Run a Meltano JOB the safe way: one at a time, restarted after a crash, exit code 3 if something was parked."""
    from console.run import run_job

    sys.exit(run_job(_open_stores(), list(job), say=lambda line: click.echo(line, err=True)))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8481, show_default=True, help="0 takes a free one.")
@_ours
def console(host: str, port: int) -> None:
    """Serve the web page: people, threads across channels, who waits for an answer, and why persons were merged."""
    from console.web import serve_console

    serve_console(_open_stores(), host=host, port=port)


@main.group()
def setup() -> None:
    """Create in a CRM what onethread needs there. Safe to repeat."""


@setup.command("hubspot")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@_ours
def setup_hubspot_command(*, dry_run: bool) -> None:
    """Create HubSpot's properties and find out what the account allows."""
    from console.project import crm_settings
    from targets.hubspot.setup import setup_hubspot

    for line in setup_hubspot(crm_settings("hubspot"), _open_stores(), dry_run=dry_run):
        click.echo(line)


@setup.command("salesforce")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@click.option("--check-only", is_flag=True, help="Let the org validate it, and change nothing.")
@_ours
def setup_salesforce_command(*, dry_run: bool, check_only: bool) -> None:
    """Create objects, fields, list views and permission sets in a Salesforce org. Deletes nothing."""
    from console.project import crm_settings
    from targets.salesforce.setup import setup_salesforce

    for line in setup_salesforce(crm_settings("salesforce"), _open_stores(), dry_run=dry_run, check_only=check_only):
        click.echo(line)


@setup.command("tryton")
@click.option("--dry-run", is_flag=True, help="The same: nothing is changed in any case.")
@_ours
def setup_tryton_command(*, dry_run: bool) -> None:
    """Check server, login and rights of a Tryton database. Creates nothing."""
    from console.project import crm_settings
    from targets.tryton.setup import setup_tryton

    for line in setup_tryton(crm_settings("tryton"), _open_stores(), dry_run=dry_run):
        click.echo(line)


_status = click.option(
    "--status", default="parked", show_default=True,
    type=click.Choice(["parked", "replay", "replayed", "dropped", "all"]), help="Which ones.",
)  # fmt: skip


@main.group(invoke_without_command=True)
@_status
@click.pass_context
@_ours
def parked(context: click.Context, status: str) -> None:
    """List what could not be understood or written, with the reason."""
    if not context.invoked_subcommand:
        _list_parked(status)


@parked.command("list")
@_status
@_ours
def parked_list(status: str) -> None:
    """List what could not be understood or written, with the reason."""
    _list_parked(status)


def _list_parked(status: str) -> None:
    from stores.parked import Parked

    items = Parked(_open_stores()).list(None if status == "all" else status)
    if not items:
        click.echo("nothing is parked" if status == "parked" else f"nothing with status {status}")
    for item in items:
        click.echo(f"{item.parked_id:>6}  {item.parked_at[:19]}  {item.part}  {item.stream}  tries {item.tries}")
        click.echo(f"        {item.error}: {item.reason}" + (f"  [{item.raw_ref}]" if item.raw_ref else ""))


@parked.command("replay")
@click.argument("parked_id", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Everything that is parked.")
@_ours
def parked_replay(parked_id: Sequence[int], *, every: bool) -> None:
    """Give parked things back to their part: its next run takes them up."""
    from stores.parked import Parked

    if not every and not parked_id:
        message = "name what to replay by its number, or use --all"
        raise click.UsageError(message)
    store = Parked(_open_stores())
    ids = [item.parked_id for item in store.list(limit=100_000)] if every else list(parked_id)
    click.echo(f"{store.ask_replay(ids)} will be taken up by the next run")


parked.add_command(parked_replay, "retry")


@parked.command("drop")
@click.argument("parked_id", type=int, nargs=-1, required=True)
@_ours
def parked_drop(parked_id: Sequence[int]) -> None:
    """Give parked things up for good."""
    from stores.parked import Parked

    click.echo(f"{Parked(_open_stores()).drop(list(parked_id))} dropped")


@parked.command("show")
@click.argument("parked_id", type=int)
@_ours
def parked_show(parked_id: int) -> None:
    """Show the raw payload of one parked thing. It holds what the customer wrote."""
    import json

    from stores.parked import Parked

    for item in Parked(_open_stores()).list(None, limit=100_000):
        if item.parked_id == parked_id:
            click.echo(json.dumps(item.payload, indent=2, ensure_ascii=False))
            return
    message = f"nothing is parked under {parked_id}"
    raise click.ClickException(message)


@main.group(invoke_without_command=True)
@click.pass_context
@_ours
def outbox(context: click.Context) -> None:
    """List replies: waiting, sent, refused, failed, and those whose outcome is not known."""
    if context.invoked_subcommand:
        return
    from stores.outbox import Outbox

    replies = Outbox(_open_stores()).listing()
    if not replies:
        click.echo("no replies yet")
    for one in replies:
        channel = one.channel or one.reply.channel
        click.echo(f"{one.token[:12]}  {one.queued_at:%Y-%m-%d %H:%M:%S}  {channel:<10}  {one.state}")
        if one.reason:
            click.echo(f"              {one.reason}")


@outbox.command("decide")
@click.argument("token")
@click.option(
    "--as", "decision", type=click.Choice(["sent", "not-sent", "cancel"]), required=True,
    help="sent: it reached the customer. not-sent: it did not, send it now. cancel: do not send it.",
)  # fmt: skip
@_ours
def outbox_decide(token: str, decision: str) -> None:
    """Settle a reply whose outcome is not known, after a look at the platform. TOKEN: as `onethread outbox` says."""
    from stores.outbox import Outbox

    store = Outbox(_open_stores())
    found = [one.token for one in store.listing(limit=100_000) if one.token.startswith(token)]
    if len(found) != 1:
        message = f"{len(found)} replies start with {token}"
        raise click.ClickException(message)
    words: Any = decision.replace("-", "_")
    if not store.decide(found[0], words):
        message = "that reply is settled already"
        raise click.ClickException(message)
    click.echo(f"{token}: {decision}")


@main.group(invoke_without_command=True)
@click.pass_context
@_ours
def tokens(context: click.Context) -> None:
    """List the tokens that onethread renews by itself: until when each is good, and when it was renewed."""
    if context.invoked_subcommand:
        return
    from stores.tokens import Tokens

    stored = Tokens(_open_stores()).listing()
    if not stored:
        click.echo("no token is stored: those in the settings are used as they are")
    width = max((len(one.name) for one in stored), default=0)
    for one in stored:
        ends = f"until {one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at else "end not known"
        renewed = f"renewed {one.refreshed_at:%Y-%m-%d %H:%M} UTC" if one.refreshed_at else "never renewed"
        click.echo(f"{one.name:<{width}}  {ends}  {renewed}")
        if one.refreshing_since:
            click.echo(f"{'':<{width}}  a refresh that began {one.refreshing_since:%Y-%m-%d %H:%M} UTC was cut off")


@tokens.command("set")
@click.argument("name")
@click.option("--access", is_flag=True, help="What you give is an access token; without this, a refresh token.")
@click.option("--new", is_flag=True, help="Take a NAME that is not stored yet.")
@_ours
def tokens_set(name: str, *, access: bool, new: bool) -> None:
    """Replace the token NAME after a new login. It is asked for, or read from standard input; never an argument."""
    from pydantic import SecretStr

    from stores.tokens import Token, Tokens

    store = Tokens(_open_stores())
    names = [one.name for one in store.listing()]
    if name not in names and not new:
        message = f"no token {name} is stored; there are: {', '.join(names) or 'none'}. To add it, use --new"
        raise click.ClickException(message)
    label = f"new {'access' if access else 'refresh'} token of {name}"
    given = click.prompt(label, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not given.strip():
        message = "no token was given"
        raise click.ClickException(message)
    secret = SecretStr(given.strip())
    store.put(name, Token(secret) if access else Token(SecretStr(""), secret))
    click.echo(f"{name}: kept; the next run uses it")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON list.")
@_ours
def doctor(*, as_json: bool) -> None:
    """Check everything that is configured: this machine, the receiver, each account. Exit code 1 if anything failed."""
    import json

    from console.doctor import examine

    findings = []
    for finding in examine(os.environ):
        findings.append(finding)
        if not as_json:
            click.echo(finding.line())
    if as_json:
        click.echo(json.dumps([finding.values() for finding in findings], indent=2))
    if any(finding.check.ok is False for finding in findings):
        sys.exit(1)


@main.command("import")
@click.argument("file", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--channel", help="The channel that the messages were on. Not for mbox: that is email.")
@click.option("--account", help="Ours on that channel; for mbox the mailbox's address. Default: the channel.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "mbox"]), help="Default: by the file's name.")
@click.option("--map", "columns", metavar="COLUMN=FIELD", multiple=True, help="CSV: which column is which field.")
@click.option("--separator", help="CSV: between the values. Default: the one the header has most of.")
@click.option("--encoding", help="CSV: of the file. Default: utf-8.")
@click.option("--timezone", help="Of times without one, e.g. Europe/Rome.")
@click.option("--time-format", help="Of times that are not ISO 8601, e.g. '%d/%m/%Y %H:%M'.")
@click.option("--id-scope", help="Where the customers' own ids are unique. Default: the channel.")
@click.option("--default-region", help="Country of phone numbers without country code, e.g. GB.")
@click.option("--own-address", "own_addresses", multiple=True, help="mbox: a further address of ours, or @domain.")
@click.option("--keywords-file", type=click.Path(exists=True, dir_okay=False), help="Your own opt-out words (CSV).")
@click.option("--dry-run", is_flag=True, help="Say what is in the files and what is wrong with them; write nothing.")
@_ours
def import_files_command(
    file: Sequence[str], form: str | None, columns: Sequence[str], *, dry_run: bool, **options: Any
) -> None:
    """Read FILEs of messages, calls and forms (JSONL, CSV) or of mail (mbox) into the archive. Safe to repeat."""
    from console.importing import columns_of, import_files, look_at_files

    given = {"files": list(file), "format": form, "columns": columns_of(columns), **options}
    given["own_addresses"] = list(given["own_addresses"])
    config = {name: value for name, value in given.items() if value not in (None, [], {})}

    def say(line: str) -> None:
        click.echo(line)

    sys.exit(look_at_files(config, say) if dry_run else import_files(_open_stores(), config, say))


@main.group()
def custom() -> None:
    """Help with a channel of your own: see taps/custom.md."""


@custom.command("schema")
@_ours
def custom_schema() -> None:
    """Print the JSON schema of what a channel of your own sends."""
    import json

    from mappings.from_custom import contract_schema

    click.echo(json.dumps(contract_schema(), indent=2))


@custom.command("secret")
@_ours
def custom_secret() -> None:
    """Print a new secret, for onethread and for the side that sends."""
    from console.importing import new_secret

    click.echo(new_secret())


@main.command()
@_ours
def status() -> None:
    """Say how things stand: deliveries, messages, replies, parked."""
    from console.project import status_lines

    for line in status_lines(_open_stores()):
        click.echo(line)


@main.command()
@click.option("--port", default=0, help="First of the ports; 0 takes free ones.")
@_ours
def sandbox(port: int) -> None:
    """Run the stand-in servers of HubSpot and of every platform on this machine, until stopped."""
    from console.demo import serve_sandbox

    serve_sandbox(port)


@main.command()
@click.option("--keep", is_flag=True, help="Leave everything running, to look around.")
@click.option("--full", is_flag=True, help="With a scene on every platform.")
@click.option(
    "--crm", default="hubspot", show_default=True, type=click.Choice(["hubspot", "salesforce", "tryton"]),
    help="hubspot and salesforce are stand-ins; tryton is a real server, installed at first use.",
)  # fmt: skip
@click.option("--report", default="demo-report.json", show_default=True, type=click.Path(path_type=Path))
@_ours
def demo(*, keep: bool, full: bool, crm: str, report: Path) -> None:
    """Play the whole story against the stand-in servers and count what happened."""
    from console.demo import play

    sys.exit(play(keep=keep, report=report, full=full, crm=crm))


main.add_command(identity)

if __name__ == "__main__":
    main()
