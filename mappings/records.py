"""The canonical records: what every tap emits, map-identity stamps and every target takes.

One pydantic model per Singer stream; the stream's JSON schema and key come from here. Times are aware UTC, ids are
strings, text is the customer's, untouched; an absent fact is ``None``. `STREAMS` names them all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from mappings.ids import handle_key


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first and the last day that there is, in another time zone
        msg = "the moment is outside the years 1 to 9999"
        raise ValueError(msg) from None


UtcDatetime = Annotated[AwareDatetime, AfterValidator(_to_utc)]

Direction = Literal["inbound", "outbound"]
AuthorKind = Literal["customer", "agent", "bot", "system"]
Origin = Literal["direct", "comment", "mention", "ad", "form", "call"]
MessageKind = Literal[
    "text", "image", "video", "audio", "file", "sticker", "location", "contacts", "answer", "order", "template",
    "referral", "system", "call", "form", "unsupported",
]  # fmt: skip
ChangeKind = Literal["edit", "unsend", "react", "unreact"]
ReceiptStatus = Literal["queued", "accepted", "sent", "delivered", "read", "failed", "refused", "unknown"]
Strength = Literal["verified", "crm", "claimed", "inferred"]
Actor = Literal["nobody", "agent", "operator", "platform", "customer"]
Purpose = Literal["service", "promotional"]


class Record(BaseModel):
    """Base of all canonical records: frozen, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: ClassVar[str]
    key_properties: ClassVar[tuple[str, ...]]


class Handle(BaseModel):
    """One address of a person: (kind, scope, value).

    A scoped id never matches in another scope. Kinds, by what scopes them:

    - the whole world: ``email``, ``phone`` (E.164), ``telegram_user``, ``telegram_chat``, ``x_user``
    - the account of ours that it was seen by: ``apple_opaque``, ``chatwoot_contact``, ``instagram_igsid``,
      ``line_group``, ``line_room``, ``login`` (who is logged in at our site), ``messenger_psid``,
      ``messenger_user_ref``, ``slack_user`` (workspace), ``sms_sender``, ``sms_short_code``, ``viber_user``,
      ``wechat_openid``
    - what owns several accounts: ``custom_user`` (id space of the channel), ``line_user`` (provider),
      ``wechat_unionid`` (Open Platform account), ``wecom_external_user`` (company), ``whatsapp_user`` (portfolio)
    - the CRM's account: ``hubspot_contact`` (portal), ``salesforce_contact`` (organisation), ``tryton_contact`` ...

    Before any of them ``former_`` says that the handle has another owner since; its scope says until when.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    scope: str | None = None
    value: str

    @property
    def key(self) -> str:
        """The handle as one string, for look-ups; see `mappings.ids.handle_key`."""
        return handle_key(self.kind, self.scope, self.value)


class Profile(BaseModel):
    """What the platform said of the sender, as seen with this record. Never used to link persons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    username: str | None = None
    locale: str | None = None
    picture_url: str | None = None


class Attachment(BaseModel):
    """One file of a message; metadata only, the bytes are in our media store or where `url` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image", "video", "audio", "file", "sticker"]
    platform_media_id: str | None = None
    url: str | None = None
    mime_type: str | None = None
    filename: str | None = None
    size_bytes: int | None = None
    sha256: str | None = Field(None, description="As the platform writes it (WhatsApp: base64).")
    media_key: str | None = Field(None, description="Where the bytes are in our media store, once they were fetched.")


class Message(Record):
    """One message, in or out."""

    stream: ClassVar[str] = "messages"
    key_properties: ClassVar[tuple[str, ...]] = ("message_key",)

    message_key: str
    channel: str = Field(description="The platform's slug: whatsapp, messenger, email.")
    account: str = Field(description="Ours on that platform: phone number id, page id, mailbox address.")
    conversation_key: str
    thread_ids: list[str] = Field(
        default_factory=list,
        description="E-mail: this mail's Message-ID first, then those it refers to; the archive joins threads by them.",
    )
    direction: Direction
    kind: MessageKind
    text: str | None = None
    text_stripped: str | None = Field(None, description="Derived: the text without quotes and signature.")
    text_stripped_by: str | None = Field(None, description="The method that made text_stripped, with its version.")
    subject: str | None = None
    attachments: list[Attachment] = Field(default_factory=list)
    content: dict[str, Any] | None = Field(
        None, description="What text cannot say: location, contact cards, answer payload, order, template, error codes."
    )
    reply_to_key: str | None = None
    origin: Origin = "direct"
    origin_detail: dict[str, Any] | None = Field(None, description="Ad, comment or referral that started the thread.")
    flags: list[str] = Field(
        default_factory=list, description="auto_reply, bounce, list, standby, forwarded, request_folder, ..."
    )
    sent_at: UtcDatetime = Field(description="The platform's time, never ours.")
    received_at: UtcDatetime | None = Field(None, description="When we got it (delivery) or INTERNALDATE (e-mail).")
    author_kind: AuthorKind
    author_name: str | None = None
    handles: list[Handle] = Field(
        description="The customer's handles seen on this message, the sender handle (or addressee) first."
    )
    profile: Profile | None = None
    reply_key: str | None = Field(None, description="Set when this is one of our replies.")
    reply_token: str | None = Field(None, description="Our token as the platform gave it back (echo, Message-ID).")
    platform_app_id: str | None = Field(None, description="Echoes: the app that sent it.")
    seen_by: Literal["webhook", "poll", "import", "send"] = "webhook"
    raw_ref: str | None = Field(None, description="Where the raw bytes are: delivery:<id>#<item> or imap:<folder>/...")
    person_id: str | None = Field(None, description="Stamped by map-identity.")


class MessageChange(Record):
    """An edit, unsend, reaction or its removal, of a message that may not have arrived yet."""

    stream: ClassVar[str] = "message_changes"
    key_properties: ClassVar[tuple[str, ...]] = ("change_key",)

    change_key: str
    message_key: str
    channel: str
    account: str
    conversation_key: str | None = None
    change: ChangeKind
    text: str | None = Field(None, description="edit: the new text.")
    emoji: str | None = None
    author_kind: AuthorKind = "customer"
    changed_at: UtcDatetime
    sequence: int | None = Field(None, description="The platform's own edit counter, where it has one.")
    handles: list[Handle] = Field(default_factory=list)
    raw_ref: str | None = None
    person_id: str | None = None


class Receipt(Record):
    """What became of a message, a reply, or of a conversation up to a time. Monotone: it never moves back."""

    stream: ClassVar[str] = "receipts"
    key_properties: ClassVar[tuple[str, ...]] = ("subject_key", "status")

    subject_key: str
    subject_kind: Literal["message", "reply", "conversation"]
    status: ReceiptStatus
    channel: str
    account: str
    conversation_key: str | None = None
    up_to_at: UtcDatetime | None = Field(None, description="Watermarks: every own message up to this time.")
    occurred_at: UtcDatetime
    reply_key: str | None = None
    reply_token: str | None = Field(None, description="Our token as the status gave it back.")
    code: str | None = Field(None, description="The platform's own error code.")
    reason: str | None = Field(None, description="For a person to read; never message text.")
    actor: Actor = Field("nobody", description="Who must act on it.")
    raw_ref: str | None = None


class Evidence(Record):
    """Handles seen together in one record: account linking, number change, shared contact, user list."""

    stream: ClassVar[str] = "evidence"
    key_properties: ClassVar[tuple[str, ...]] = ("evidence_key",)

    evidence_key: str
    method: str = Field(description="account_link, number_changed, user_id_changed, contact_card, reply_to, ...")
    strength: Strength
    channel: str
    account: str
    handles: list[Handle]
    observed_at: UtcDatetime
    profile: Profile | None = None
    raw_ref: str | None = None


class Consent(Record):
    """Opt-in or opt-out of one handle on one channel and account for one purpose, with its source."""

    stream: ClassVar[str] = "consents"
    key_properties: ClassVar[tuple[str, ...]] = ("handle_key", "channel", "account", "purpose")

    handle_key: str
    handle: Handle
    channel: str
    account: str
    purpose: Purpose
    status: Literal["opted_in", "opted_out"]
    source: str = Field(description="keyword, template_answer, preference, unsubscribe")
    source_message_key: str | None = None
    decided_at: UtcDatetime
    raw_ref: str | None = None
    person_id: str | None = None


class Conversation(Record):
    """Derived by the archive: one thread of one handle with one account."""

    stream: ClassVar[str] = "conversations"
    key_properties: ClassVar[tuple[str, ...]] = ("conversation_key",)

    conversation_key: str
    channel: str
    account: str
    person_id: str | None = None
    handles: list[Handle] = Field(default_factory=list)
    subject: str | None = None
    message_count: int = 0
    first_message_at: UtcDatetime | None = None
    last_inbound_at: UtcDatetime | None = None
    last_outbound_at: UtcDatetime | None = None
    unanswered_since: UtcDatetime | None = Field(None, description="Oldest customer message after our last answer.")
    window_closes_at: UtcDatetime | None = None
    request_folder: bool = Field(False, description="It lies in the account's folder of message requests.")
    request_vanishes_at: UtcDatetime | None = Field(
        None,
        description="When the platform's API drops the conversation if nothing happens: it is a message request, or "
        "may be one because the account never answered.",
    )


class Contact(Record):
    """A CRM's person."""

    stream: ClassVar[str] = "contacts"
    key_properties: ClassVar[tuple[str, ...]] = ("crm", "account", "record_id")

    crm: str
    account: str = Field(description="The CRM account: HubSpot portal id, Salesforce org id.")
    record_id: str
    handles: list[Handle] = Field(description="The CRM record itself first, then e-mails and phones.")
    name: str | None = None
    owner_id: str | None = None
    projection: bool = Field(False, description="Made by our target: no evidence, freely re-pointed.")
    identity_key: str | None = Field(None, description="The person id that our target wrote on it.")
    merged_record_ids: list[str] = Field(default_factory=list, description="Records that were merged into this one.")
    deleted: bool = False
    modified_at: UtcDatetime
    raw_ref: str | None = None
    person_id: str | None = None


class Reply(Record):
    """What an agent wrote in the CRM, to be sent on the customer's channel."""

    stream: ClassVar[str] = "replies"
    key_properties: ClassVar[tuple[str, ...]] = ("reply_key",)

    reply_key: str
    crm: str
    account: str
    record_id: str
    handles: list[Handle] = Field(
        description="Whom it is for: the CRM record first, then its e-mails and phones. Of an answer in a thread the"
        " customer's address there first, then the record, which may have been another person's."
    )
    identity_key: str | None = Field(None, description="The person id that our target wrote on the record.")
    channel: str = Field("auto", description="A platform's slug, or auto.")
    conversation_key: str | None = Field(None, description="The thread that it answers: it goes there, or nowhere.")
    thread_id: str | None = Field(
        None, description="The external id of the CRM's record of a thread: it goes there if that is this customer's."
    )
    text: str | None = None
    template: str | None = None
    template_language: str | None = None
    template_parameters: list[str] = Field(default_factory=list)
    attachments: list[Attachment] = Field(default_factory=list)
    purpose: Purpose = "service"
    author_kind: AuthorKind = "agent"
    author_name: str | None = None
    written_at: UtcDatetime
    raw_ref: str | None = None
    person_id: str | None = None


class Person(Record):
    """Golden record: all live handles, best name and a summary that an admin can filter on."""

    stream: ClassVar[str] = "persons"
    key_properties: ClassVar[tuple[str, ...]] = ("person_id",)

    person_id: str
    handles: list[Handle]
    name: str | None = None
    locale: str | None = None
    shared_line: bool = Field(False, description="The person of a shared handle: several people use it.")
    channels: list[str] = Field(default_factory=list)
    last_inbound_at: UtcDatetime | None = None
    last_inbound_channel: str | None = Field(None, description="Where the person wrote last.")
    last_outbound_at: UtcDatetime | None = None
    unanswered_since: UtcDatetime | None = None
    window_closes_at: UtcDatetime | None = None
    message_count: int = 0
    opted_in: list[str] | None = Field(
        None, description="Channels on which advertising is wanted; null: not told, which is not the same as none."
    )
    opted_out: list[str] | None = Field(
        None, description='Channels on which it is not: the "no" of one handle outweighs every "yes" there.'
    )


class HandleSpan(BaseModel):
    """A handle that changed hands, and between which moments its messages are meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: Handle = Field(description="As it stands on the messages.")
    since: UtcDatetime | None = Field(None, description="Messages sent at or after this.")
    until: UtcDatetime | None = Field(None, description="Messages sent before this.")


class PersonChange(Record):
    """A merge, split or erasure, in the order it happened."""

    stream: ClassVar[str] = "person_changes"
    key_properties: ClassVar[tuple[str, ...]] = ("sequence",)

    sequence: int
    change: Literal["merge", "split", "erase"]
    from_person_ids: list[str]
    into_person_id: str | None = None
    handles: list[Handle] = Field(default_factory=list, description="The handles that moved.")
    conversation_keys: list[str] = Field(default_factory=list, description="The conversations that moved.")
    spans: list[HandleSpan] = Field(
        default_factory=list,
        description="Of these handles only the messages of that time moved: somebody else had the handle before, or "
        "has it since.",
    )
    why: str
    changed_at: UtcDatetime


class ArchivedMessage(Message):
    """A message as the archive tells it: with all its changes and receipts folded in."""

    status: ReceiptStatus | None = None
    status_at: UtcDatetime | None = None
    status_reason: str | None = None
    edited_at: UtcDatetime | None = None
    unsent_at: UtcDatetime | None = None
    reactions: list[str] = Field(default_factory=list, description="Emojis now on the message, sorted.")


STREAMS: dict[str, type[Record]] = {
    model.stream: model
    for model in (
        Person,
        PersonChange,
        Conversation,
        Message,
        MessageChange,
        Receipt,
        Consent,
        Evidence,
        Contact,
        Reply,
    )
}
"""Every stream by name, in the order in which an archive emits those it has."""
