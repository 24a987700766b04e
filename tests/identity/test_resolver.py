"""One rule of who is who per test."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.errors import SettingsError
from mappings.records import Handle, Reply
from stores.database import Stores
from stores.graph import Graph
from tests.identity.worlds import (
    PORTAL,
    START,
    answer_of,
    consent,
    contact,
    email,
    evidence,
    expected,
    hubspot,
    message,
    messenger,
    person_ids,
    phone,
    whatsapp,
)


def reply(*handles: Handle) -> Reply:
    return Reply(
        reply_key=f"hubspot:{PORTAL}:9:1", crm="hubspot", account=PORTAL, record_id="9", handles=list(handles),
        written_at=START,
    )  # fmt: skip


def together(graph: Graph, *handles: Handle) -> bool:
    persons = {graph.person_of(handle) for handle in handles}
    return len(persons) == 1 and None not in persons


def apart(graph: Graph, *handles: Handle) -> bool:
    persons = {graph.person_of(handle) for handle in handles}
    return len(persons) == len(handles) and None not in persons


# What links


def test_a_message_links_its_sender_id_and_its_phone(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u"), phone(1))])
    assert together(graph, whatsapp("u"), phone(1))


def test_a_message_with_one_handle_makes_its_person(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"))])
    assert person_id == graph.person_of(whatsapp("u"))
    assert graph.handles_of(str(person_id)) == [whatsapp("u")]


def test_a_later_message_finds_the_person_of_an_earlier_one(resolver: Resolver) -> None:
    [first] = resolver.resolve([message(whatsapp("u"), phone(1), minute=1)])
    assert resolver.resolve([message(phone(1), minute=2), message(whatsapp("u"), minute=3)]) == [first, first]


def test_a_message_to_two_addresses_does_not_make_them_one_person(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(email("ann"), email("bob"))])
    assert apart(graph, email("ann"), email("bob"))


def test_a_scoped_id_never_matches_in_another_scope(graph: Graph, resolver: Resolver) -> None:
    elsewhere = Handle(kind="messenger_psid", scope="other page", value="42")
    resolver.resolve([message(messenger("42")), message(elsewhere)])
    assert apart(graph, messenger("42"), elsewhere)


def test_a_crm_contact_links_what_stands_on_it(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("ann"), phone(1)), message(whatsapp("u"), phone(1))])
    assert together(graph, hubspot("7"), email("ann"), phone(1), whatsapp("u"))


def test_a_changed_whatsapp_id_stays_the_same_person(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("old")), message(whatsapp("new"))])
    resolver.resolve([evidence(whatsapp("old"), whatsapp("new"), method="user_id_changed")])
    assert together(graph, whatsapp("old"), whatsapp("new"))


def test_a_changed_number_stays_the_same_person(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([evidence(phone(1), phone(2), method="number_changed")])
    assert together(graph, phone(1), phone(2))


# What does not link


@pytest.mark.parametrize("strength", ["claimed", "inferred"])
def test_an_address_that_somebody_only_typed_never_merges(graph: Graph, resolver: Resolver, strength: str) -> None:
    resolver.resolve([message(email("victim")), message(whatsapp("hijacker"))])
    resolver.resolve([evidence(whatsapp("hijacker"), email("victim"), strength=strength)])  # type: ignore[arg-type]
    assert apart(graph, whatsapp("hijacker"), email("victim"))


def test_claimed_evidence_is_kept_for_whoever_asks_why(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u")), message(email("ann"))])
    resolver.resolve([evidence(whatsapp("u"), email("ann"), strength="claimed", method="contact_card")])
    told = [row for row in graph.why(str(graph.person_of(whatsapp("u")))) if row["method"] == "contact_card"]
    assert [(row["strength"], row["same_person"]) for row in told] == [("claimed", False)]


def test_a_handle_that_was_only_claimed_is_nobody(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([evidence(whatsapp("u"), email("ann"), strength="claimed")])
    assert graph.person_of(email("ann")) is None


def test_a_role_mailbox_links_nobody_and_is_a_person_of_its_own(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("info"), email("ann")), message(email("info"))])
    assert apart(graph, hubspot("7"), email("info"))
    assert together(graph, hubspot("7"), email("ann"))
    assert graph.is_shared(str(graph.person_of(email("info"))))


def test_a_placeholder_address_links_nobody(graph: Graph, resolver: Resolver) -> None:
    nowhere = Handle(kind="email", value="root@localhost")
    resolver.resolve([contact("7", nowhere), contact("8", nowhere)])
    assert apart(graph, hubspot("7"), hubspot("8"), nowhere)


def test_a_bulk_record_links_nobody(graph: Graph, resolver: Resolver) -> None:
    handles = [messenger(str(number)) for number in range(17)]
    resolver.resolve([evidence(*handles)])
    assert apart(graph, *handles)


# Shared handles


def test_a_family_that_shares_a_phone_is_three_persons(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1), email("ann")), contact("8", phone(1), email("bob"))])
    [sender] = resolver.resolve([message(phone(1))])
    assert apart(graph, hubspot("7"), hubspot("8"), phone(1))
    assert together(graph, hubspot("7"), email("ann"))
    assert together(graph, hubspot("8"), email("bob"))
    assert sender == graph.person_of(phone(1))
    assert graph.is_shared(str(sender))


def test_a_shared_phone_pulls_no_whatsapp_sender_onto_a_contact(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1)), message(whatsapp("u"), phone(1)), contact("8", phone(1))])
    assert apart(graph, whatsapp("u"), phone(1), hubspot("7"), hubspot("8"))


def test_a_mailbox_shared_by_many_links_nobody(graph: Graph, resolver: Resolver) -> None:
    phones = [phone(number) for number in range(4)]
    resolver.resolve([evidence(email("family"), number) for number in phones])
    assert apart(graph, email("family"), *phones)
    assert graph.is_shared(str(graph.person_of(email("family"))))


def test_neighbours_up_to_the_cap_still_link(graph: Graph, resolver: Resolver) -> None:
    phones = [phone(number) for number in range(3)]
    resolver.resolve([evidence(email("family"), number) for number in phones])
    assert together(graph, email("family"), *phones)


def test_role_mailboxes_do_not_count_towards_a_cap(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1), email("ann"), email("anna"), email("info"))])
    assert together(graph, hubspot("7"), phone(1), email("ann"), email("anna"))


def test_a_phone_taken_off_one_contact_links_the_other_again(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1)), contact("8", phone(1)), message(phone(1))])
    resolver.resolve([contact("8", minute=1)])
    assert together(graph, hubspot("7"), phone(1))
    assert not graph.is_shared(str(graph.person_of(phone(1))))


# CRM contacts


def test_two_contacts_that_a_chain_connects_stay_two_persons_and_are_listed(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("ann"), minute=1), contact("8", email("bob"), minute=2)])
    resolver.resolve([evidence(email("ann"), messenger("m")), evidence(email("bob"), messenger("m"))])
    assert together(graph, hubspot("7"), email("ann"), email("bob"), messenger("m"))
    assert graph.person_of(hubspot("8")) != graph.person_of(hubspot("7"))
    [conflict] = graph.conflicts()
    assert {handle.key for handle in conflict.handles} == {hubspot("8").key, email("bob").key}
    assert set(conflict.person_ids) == {graph.person_of(hubspot("7")), graph.person_of(hubspot("8"))}
    assert conflict.reason == "at most 1 hubspot_contact per person"


def test_a_contact_of_each_of_two_portals_may_be_one_person(graph: Graph, resolver: Resolver) -> None:
    other = hubspot("7", portal="2002")
    resolver.resolve([evidence(hubspot("7"), messenger("m")), evidence(other, messenger("m"))])
    assert together(graph, hubspot("7"), other)


def test_a_conflict_that_is_solved_is_no_longer_listed(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("ann")), contact("8", email("bob")), evidence(email("ann"), email("bob"))])
    assert graph.conflicts()
    resolver.resolve([contact("8", minute=1, deleted=True)])
    assert graph.conflicts() == []


def test_a_contact_that_our_target_made_is_no_evidence(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"), phone(1))])
    resolver.resolve([contact("7", phone(1), email("ann"), projection=True, identity_key=person_id)])
    assert graph.handles_of(str(person_id)) == [phone(1), whatsapp("u")]
    assert graph.person_of(email("ann")) is None


def test_a_contact_that_our_target_made_leads_to_the_person_written_on_it(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"))])
    assert resolver.resolve([contact("7", projection=True, identity_key=person_id)]) == [person_id]
    assert resolver.resolve([reply(hubspot("7"))]) == [person_id]
    assert graph.person_of(hubspot("7")) == person_id


def test_a_deleted_contact_takes_its_evidence_back(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(email("ann")), message(phone(1)), contact("7", email("ann"), phone(1))])
    resolver.resolve([contact("7", email("ann"), phone(1), minute=1, deleted=True)])
    assert apart(graph, email("ann"), phone(1))
    assert graph.person_of(hubspot("7")) is None


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_newest_version_of_a_contact_counts_whatever_the_order(
    graph: Graph, resolver: Resolver, newest_first: bool
) -> None:
    versions = [contact("7", email("ann"), phone(1), minute=1), contact("7", email("ann"), minute=2)]
    for version in reversed(versions) if newest_first else versions:
        resolver.resolve([message(email("ann")), message(phone(1)), version])
    assert apart(graph, email("ann"), phone(1))


@pytest.mark.parametrize("survivor_first", [True, False])
def test_merged_crm_records_count_as_one_and_stay_resolvable(
    graph: Graph, resolver: Resolver, survivor_first: bool
) -> None:
    old = [contact("7", email("ann"), minute=1), contact("8", email("bob"), minute=1)]
    survivor = contact("9", email("ann"), minute=2, merged_record_ids=["7", "8"])
    for record in [survivor, *old] if survivor_first else [*old, survivor]:
        resolver.resolve([record, message(email("bob"))])
    assert together(graph, hubspot("7"), hubspot("8"), hubspot("9"), email("ann"))
    assert graph.person_of(email("bob")) != graph.person_of(email("ann"))
    assert graph.conflicts() == []


def test_a_person_never_grows_beyond_the_limit(graph: Graph, stores: Stores) -> None:
    resolver = Resolver(graph, load_rules().model_copy(update={"max_handles_per_person": 3}))
    chain = [messenger(str(number)) for number in range(5)]
    resolver.resolve([evidence(a, b, minute=index) for index, (a, b) in enumerate(pairwise(chain))])
    assert together(graph, *chain[:3])
    assert together(graph, *chain[3:])
    assert {conflict.reason for conflict in graph.conflicts()} == {"at most 3 handles per person"}


# Which person a record gets


def test_a_record_gets_the_person_of_its_first_handle(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1)), contact("8", phone(1))])
    [person_id] = resolver.resolve([message(whatsapp("u"), phone(1))])
    assert person_id == graph.person_of(whatsapp("u"))
    assert person_id != graph.person_of(phone(1))


def test_a_consent_makes_its_person(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([consent(phone(1))])
    assert person_id == graph.person_of(phone(1)) is not None


def test_a_message_without_handles_is_nobodys(resolver: Resolver) -> None:
    assert resolver.resolve([message()]) == [None]


def test_a_reply_finds_its_person_and_leaves_no_trace(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1))])
    before = graph.last_sequence()
    assert resolver.resolve([reply(hubspot("9"), email("nobody"), phone(1))]) == [person_id]
    assert graph.person_of(email("nobody")) is None
    assert graph.last_sequence() == before


def test_a_record_early_in_a_batch_gets_the_person_as_of_its_end(resolver: Resolver) -> None:
    first, _, third = resolver.resolve([message(phone(1)), contact("7", phone(1), email("ann")), message(email("ann"))])
    assert first == third


# Names


def test_a_crm_contact_gives_the_name_before_any_platform(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1), minute=9, name="~annie~")])
    resolver.resolve([contact("7", phone(1), name="Ann Lee")])
    assert graph.best_name(str(person_id)) == "Ann Lee"


def test_the_newest_profile_gives_the_name_in_any_order(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1), minute=9, name="Ann Lee")])
    [person_id] = resolver.resolve([message(phone(1), minute=1, name="Annie")])
    assert graph.best_name(str(person_id)) == "Ann Lee"


def test_what_an_agent_wrote_says_nothing_of_the_customers_name(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve(
        [message(phone(1), name="Our Shop", direction="outbound", author_kind="agent", author_name="Kim")]
    )
    assert graph.best_name(str(person_id)) is None


def test_the_name_of_a_mail_is_its_senders_name(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(email("ann"), author_name="Ann Lee")])
    assert graph.best_name(str(person_id)) == "Ann Lee"


def test_a_name_leaves_with_its_handle(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1), name="Ann"), message(email("bob")), contact("7", phone(1), email("bob"))])
    resolver.resolve([contact("7", email("bob"), minute=1)])
    assert graph.best_name(str(graph.person_of(phone(1)))) == "Ann"
    assert graph.best_name(str(graph.person_of(email("bob")))) is None


# Rules that change


def test_other_rules_are_followed_on_everything_that_is_stored(graph: Graph, resolver: Resolver) -> None:
    phones = [phone(number) for number in range(4)]
    resolver.resolve([evidence(email("family"), number) for number in phones])
    kinds = {"email": load_rules().of("email").model_copy(update={"caps": {"phone": 9}})}
    generous = Resolver(graph, load_rules().model_copy(update={"kinds": kinds}))
    assert generous.follow_rules()
    assert together(graph, email("family"), *phones)
    assert Resolver(graph, load_rules()).follow_rules()
    assert apart(graph, email("family"), *phones)


def test_the_same_rules_change_nothing(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1))])
    before = graph.last_sequence()
    assert not Resolver(graph, load_rules()).follow_rules()
    assert graph.last_sequence() == before


def test_a_run_with_other_rules_than_the_graph_stops(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1))])
    Resolver(graph, load_rules().model_copy(update={"max_handles_per_person": 9})).follow_rules()
    with pytest.raises(SettingsError, match="other rules"):
        resolver.resolve([message(phone(2))])


def test_rules_that_stop_blocking_let_a_value_link(graph: Graph) -> None:
    blocked = load_rules().model_copy(update={"blocked": {"phone": (phone(1).value,)}})
    Resolver(graph, blocked).resolve([message(whatsapp("u"), phone(1))])
    assert apart(graph, whatsapp("u"), phone(1))
    Resolver(graph, load_rules()).follow_rules()
    assert together(graph, whatsapp("u"), phone(1))


# Several processes

WORKER = """
import sys
from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.records import STREAMS
from stores.database import Stores
from stores.graph import Graph
resolver = Resolver(Graph(Stores(sys.argv[1])), load_rules())
lines = [line.rstrip().split(" ", 1) for line in open(sys.argv[2])]
records = [STREAMS[stream].model_validate_json(text) for stream, text in lines]
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, len(records), 3):
    resolver.resolve(records[start:start + 3])
"""


def test_two_processes_at_once_give_the_persons_of_one(stores: Stores, tmp_path: Path) -> None:
    records = [
        *(message(whatsapp(f"u{n}"), phone(n), minute=n) for n in range(30)),
        *(contact(str(n), phone(n), email(f"e{n // 2}")) for n in range(30)),
        *(message(email(f"e{n}"), minute=n) for n in range(15)),
        *(evidence(messenger(f"m{n // 3}"), phone(n), minute=n) for n in range(30)),
    ]
    workers = []
    for number, share in enumerate([records[0::2] + records[1::4], list(reversed(records[1::2] + records[0::4]))]):
        file = tmp_path / f"share-{number}"
        file.write_text("".join(f"{record.stream} {record.model_dump_json()}\n" for record in share), encoding="utf-8")
        command = [sys.executable, "-c", WORKER, stores.url, str(file)]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.communicate("go\n", timeout=120)
    assert [worker.returncode for worker in workers] == [0, 0]
    reference, answer = expected(records, load_rules(), lambda _: 0), answer_of(stores)
    assert answer.persons == reference.persons
    assert answer.refused == reference.refused
    assert len(person_ids(stores)) == len({handle for person in reference.persons for handle in person})
