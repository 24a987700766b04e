"""`onethread identity`: who is who, why, and what people decide about it."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from console.identity_privacy import COMMANDS
from mappings.errors import OneThreadError

if TYPE_CHECKING:
    from identity.chain import Step
    from identity.desk import Desk, Outcome
    from identity.explain import Explanation
    from identity.resolver import DecisionKind
    from identity.rules import Rules
    from mappings.records import Handle
    from stores.database import Stores
    from stores.graph import Decision

APART = 3
"""The exit code of `why` when the two are not one person."""


class _Group(click.Group):
    """Turns an error of ours into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OneThreadError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
@click.option(
    "--rules-file", envvar="ONETHREAD_IDENTITY_RULES_FILE", type=click.Path(dir_okay=False),
    help="The same as map-identity's. Default: ONETHREAD_IDENTITY_RULES_FILE, else the packaged rules.",
)  # fmt: skip
@click.pass_context
def identity(context: click.Context, rules_file: str | None) -> None:
    """Ask who is who and why, decide it, take it back, and look through what is open.

    A, B and HANDLE are an e-mail address, a phone with its country (+44...), kind:value, kind:scope:value, or a
    person's id.
    """
    context.obj = rules_file


_by = click.option("--by", "actor", default=None, metavar="NAME", help="Who decides. Default: $USER.")
_reason = click.option("--reason", default=None, help="Why, for whoever asks later.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would follow; decide nothing.")


@identity.command()
@click.argument("person_or_handle")
@click.pass_obj
def show(rules_file: str | None, person_or_handle: str) -> None:
    """Show a person: handles, CRM records, conversations, what it was merged from, open conflicts, decisions."""
    from identity.apart import why_shared
    from identity.review import ReviewQueue

    stores, rules, desk = _desk(rules_file)
    nodes = desk.find(person_or_handle)
    persons = sorted({node.person_id for node in nodes.values() if node.person_id})
    if not persons:
        message = (
            "nothing that links speaks of it (somebody only typed it, or its evidence was withdrawn): it is nobody's"
        )
        raise click.ClickException(message)
    graph, [person_id] = desk.graph, persons
    side = ReviewQueue(stores, rules).side(person_id)
    click.echo(f"person {person_id}  {side.name or '(no name)'}" + (f"  {side.locale}" if side.locale else ""))
    click.echo("handles:")
    for node in sorted(graph.nodes_of([person_id]).values(), key=lambda one: one.key):
        note = "" if node.link == "links" else f"  {node.link}"
        if node.link == "shared":
            note += f": {why_shared(graph, rules, node)}"
        click.echo(f"  {_named(node.handle)}{note}")
    if side.crm_records:
        click.echo("CRM records:")
        for record in side.crm_records:
            made = "" if any(record == handle for handle, _ in side.handles) else "  made by onethread"
            click.echo(f"  {_named(record)}{made}")
    waiting = sum(one.unanswered_since is not None for one in side.conversations)
    click.echo(f"conversations: {len(side.conversations)}" + (f", {waiting} unanswered" if waiting else ""))
    if merged := graph.merged_into(person_id):
        click.echo("merged from: " + ", ".join(merged))
    ids = set(graph.nodes_of([person_id]))
    for pair, reason in sorted(graph.refused_about(ids).items()):
        ends = graph.nodes(pair)
        between = " and ".join(sorted(_named(ends[one].handle) for one in pair))
        click.echo(f"open conflict: {between}: {reason}")
    for decision in graph.decisions_about(ids):
        click.echo(_told(decision))


@identity.command()
@click.argument("a")
@click.argument("b")
@click.pass_obj
def why(rules_file: str | None, a: str, b: str) -> None:
    """Tell why A and B are one person, step by step, or what keeps them apart (then the exit code is 3)."""
    from identity.explain import explain, strongest_handle

    _, rules, desk = _desk(rules_file)
    ends = []
    for name in (a, b):
        node = strongest_handle(desk.find(name).values(), rules)
        assert node is not None  # noqa: S101 (`find` raises when there is nothing)
        ends.append(node.handle)
    explanation = explain(desk.graph, rules, ends[0], ends[1])
    for line in _explained(explanation):
        click.echo(line)
    if not explanation.together:
        sys.exit(APART)


def _deciding(*names: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command by which a person says something of the handles `names`."""

    def command(act: Callable[..., None]) -> click.Command:
        act = _by(_reason(_dry_run(click.pass_obj(act))))
        for name in reversed(names):
            act = click.argument(name)(act)
        return identity.command()(act)

    return command


@_deciding("a", "b")
def same(rules_file: str | None, a: str, b: str, **how: Any) -> None:
    """Decide that A and B are one person."""
    _say("same", [a, b], rules_file, **how)


@_deciding("a", "b")
def different(rules_file: str | None, a: str, b: str, **how: Any) -> None:
    """Decide that A and B are not one person; no evidence and no score will join them again."""
    _say("different", [a, b], rules_file, **how)


@_deciding("handle")
def shared(rules_file: str | None, handle: str, **how: Any) -> None:
    """Decide that several people use HANDLE: it links nobody."""
    _say("shared", [handle], rules_file, **how)


@_deciding("handle")
def private(rules_file: str | None, handle: str, **how: Any) -> None:
    """Decide that HANDLE is one person's, however much it was seen with."""
    _say("private", [handle], rules_file, **how)


@_deciding("handle")
@click.option(
    "--since", required=True, type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="When the new owner got it (UTC).",
)  # fmt: skip
def recycled(rules_file: str | None, handle: str, since: datetime, **how: Any) -> None:
    """Decide that HANDLE has a new owner; what was seen with it before stays with the old one."""
    _say("recycled", [handle], rules_file, since=since.replace(tzinfo=UTC), **how)


@identity.command()
@click.argument("number", type=int)
@_by
@_dry_run
@click.pass_obj
def undo(rules_file: str | None, number: int, actor: str | None, *, dry_run: bool) -> None:
    """Take decision NUMBER back: everybody is as if it had never been."""
    _decide(rules_file, actor, lambda desk: desk.undo(number, dry_run=dry_run), dry_run=dry_run)


@identity.command()
@click.option("--all", "every", is_flag=True, help="Those taken back, too.")
@click.pass_obj
def decisions(rules_file: str | None, *, every: bool) -> None:
    """List what people decided, the newest first."""
    del rules_file
    from stores.graph import Graph

    found = Graph(_open_stores()).decisions(revoked=every, limit=100_000)
    for decision in found:
        click.echo(_told(decision))
    if not found:
        click.echo("nobody has decided anything yet")


@identity.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON list.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 5_000), help="How many pairs.")
@click.pass_obj
def review(rules_file: str | None, limit: int, *, as_json: bool) -> None:
    """List the pairs of persons that somebody should look at, the most valuable first."""
    import json

    from identity.review import ReviewQueue

    stores, rules, _ = _desk(rules_file)
    items = ReviewQueue(stores, rules).items(limit)
    if as_json:
        click.echo(json.dumps([_as_json(item) for item in items], indent=2, ensure_ascii=False))
        return
    for item in items:
        state = "  (later)" if item.state == "later" else ""
        wait = f", {item.unanswered} unanswered" if item.unanswered else ""
        click.echo(f"{_named(item.handles[0])}  and  {_named(item.handles[1])}  {item.score:.0%}{wait}{state}")
        for note in item.notes:
            between = " - ".join(map(_named, note.handles))
            click.echo(f"    {note.source}: {note.text}" + (f"  [{between}]" if between else ""))
        a, b = item.person_ids
        click.echo(f"    onethread identity same {a} {b}   or: different {a} {b}")
    if not items:
        click.echo("nothing to look at; `onethread identity suggest` looks for more")


@identity.command()
@click.option(
    "--above", default=None, type=click.FloatRange(0, 1, max_open=True), help="The least score. Default: 0.9."
)
@click.option("--most", default=None, type=click.IntRange(1, 100_000), help="How many are kept. Default: 1000.")
@click.pass_obj
def suggest(rules_file: str | None, above: float | None, most: int | None) -> None:
    """Look for persons that may be one, by names and what else fits, for `review`. Merges nobody; safe to repeat."""
    from identity.suggest import MOST_SUGGESTIONS, REVIEW_ABOVE
    from identity.suggest import suggest as look

    stores, rules, _ = _desk(rules_file)
    try:
        result = look(stores, rules, above=REVIEW_ABOVE if above is None else above, most=most or MOST_SUGGESTIONS)
    except TimeoutError:
        click.echo("another `onethread identity suggest` is at work; nothing to do")
        return
    left_out = f"; {result.left_out} less likely ones left out" if result.left_out else ""
    click.echo(
        f"{result.persons} persons with a name: {result.suggestions} pairs to look at"
        f" ({result.new} new, {result.gone} gone){left_out}"
    )


@identity.command()
@click.option("--engine", default="embedded", show_default=True, type=click.Choice(["embedded", "spark"]))
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.pass_obj
def rebuild(rules_file: str | None, engine: str, *, dry_run: bool) -> None:
    """Decide everybody anew from all stored evidence, decisions and rules, in one go."""
    from dataclasses import fields

    from identity.rules import load_rules

    extra = "spark" if engine == "spark" else "batch"
    try:
        from identity.batch import rebuild as decide_anew
    except ModuleNotFoundError as error:
        message = f"a rebuild needs {error.name}: pip install 'onethread[{extra}]'"
        raise click.ClickException(message) from None
    named: Any = engine
    report = decide_anew(
        _open_stores(),
        load_rules(rules_file),
        engine=named,
        dry_run=dry_run,
        say=lambda line: click.echo(line, err=True),
    )
    for one in fields(report):
        value = getattr(report, one.name)
        if isinstance(value, int | str):
            click.echo(f"{one.name.replace('_', ' ')}: {value}")


# What the commands share


def _open_stores() -> Stores:
    from stores.database import Stores

    try:
        return Stores()
    except OSError as error:
        message = f"the state folder cannot be used ({error.strerror}: {error.filename}); see ONETHREAD_STATE_URL"
        raise click.ClickException(message) from None


def _desk(rules_file: str | None, actor: str | None = None) -> tuple[Stores, Rules, Desk]:
    from identity.desk import Desk
    from identity.rules import load_rules

    stores, rules = _open_stores(), load_rules(rules_file)
    return stores, rules, Desk(stores, rules, actor or os.environ.get("USER") or getpass.getuser())


def _say(
    kind: DecisionKind,
    handles: list[str],
    rules_file: str | None,
    *,
    actor: str | None,
    reason: str | None,
    dry_run: bool,
    since: datetime | None = None,
) -> None:
    _decide(
        rules_file, actor, lambda desk: desk.say(kind, handles, since=since, reason=reason, dry_run=dry_run),
        dry_run=dry_run,
    )  # fmt: skip


def _decide(rules_file: str | None, actor: str | None, act: Callable[[Desk], Outcome], *, dry_run: bool) -> None:
    _, _, desk = _desk(rules_file, actor)
    outcome = act(desk)
    for line in _followed(outcome, dry_run=dry_run):
        click.echo(line)


def _followed(outcome: Outcome, *, dry_run: bool) -> Iterable[str]:
    """What a decision came to, and how to take it back."""
    for handles in outcome.handles:
        yield "of " + " and ".join(map(_named, handles))
    if not outcome.moved:
        yield "nobody would move" if dry_run else "nobody moved"
    would = "would " if dry_run else ""
    for moved in outcome.moved:
        change = moved.change
        yield f"{would}{change.change}: {', '.join(change.from_person_ids)} -> {change.into_person_id} ({change.why})"
        yield "  handles: " + ", ".join(map(_named, change.handles))
        for conversation in moved.conversations:
            yield f"  conversation: {conversation.channel}, {conversation.message_count} messages"
        for record in moved.crm_records:
            yield f"  CRM record: {_named(record)}"
    yield from outcome.notes
    for number in outcome.decision_ids:
        yield f"decision {number}; to take it back: onethread identity undo {number}"


def _explained(explanation: Explanation) -> Iterable[str]:
    a, b = map(_named, explanation.handles)
    if explanation.together:
        yield f"{a} and {b} are one person, {explanation.person_ids[0]}:"
        yield from _steps(explanation.steps)
        if explanation.supports:
            yield "which holds because of:"
            yield from _steps(explanation.supports)
        return
    persons = ", ".join(person_id or "nobody" for person_id in explanation.person_ids)
    yield f"{a} and {b} are not one person ({persons})"
    if explanation.steps:
        yield "what there is between them:"
        yield from _steps(explanation.steps)
    yield "what keeps them apart:"
    for one in explanation.obstacles:
        of = " - ".join(map(_named, one.handles))
        yield f"  {one.kind}: {one.text}" + (f"  [{of}]" if of else "")
        if one.decision is not None:
            yield f"    to take it back: onethread identity undo {one.decision.decision_id}"


def _steps(steps: Sequence[Step]) -> Iterable[str]:
    for step in steps:
        seen = f"{step.first_at:%Y-%m-%d %H:%M}"
        if step.last_at != step.first_at:
            seen += f" to {step.last_at:%Y-%m-%d %H:%M}"
        yield f"  {_named(step.handles[0])} - {_named(step.handles[1])}: {step.method}, {step.strength}, {seen} UTC"
        for decision in step.decisions:
            yield f"    {_told(decision)}"


def _told(decision: Decision) -> str:
    of = " and ".join(map(_named, decision.handles))
    since = f" since {decision.since:%Y-%m-%d}" if decision.since else ""
    because = f": {decision.reason}" if decision.reason else ""
    when = f"{decision.decided_at:%Y-%m-%d %H:%M} UTC"
    line = f"decision {decision.decision_id}: {decision.kind} {of}{since}, by {decision.actor} on {when}{because}"
    if decision.revoked_at:
        line += f" (taken back by {decision.revoked_by} on {decision.revoked_at:%Y-%m-%d %H:%M} UTC)"
    return line


def _named(handle: Handle) -> str:
    """A handle as the commands read it."""
    if handle.kind == "email" or (handle.kind == "phone" and handle.value.startswith("+")):
        return handle.value
    return handle.key


def _as_json(item: Any) -> dict[str, Any]:
    return {
        "person_ids": item.person_ids,
        "handles": [handle.key for handle in item.handles],
        "score": item.score,
        "state": item.state,
        "unanswered": item.unanswered,
        "cluster": item.cluster,
        "model": item.model,
        "notes": [
            {
                "source": note.source, "text": note.text, "handles": [handle.key for handle in note.handles],
                "reasons": [{"what": what, "outcome": outcome, "bits": bits} for what, outcome, bits in note.reasons],
            }
            for note in item.notes
        ],
    }  # fmt: skip


for _one in COMMANDS:
    identity.add_command(_one)
