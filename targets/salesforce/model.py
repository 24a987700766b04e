"""What onethread adds to an org, as data: two objects, fields on Contact, list views, layouts, two permission sets.

`metadata.py` makes the XML of it. Lookups, never master-detail: writing a detail locks its master (documented:
developer.salesforce.com/docs, Record-Level Locking, read 2026-11), and a message must outlive its contact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mappings.crm_words import channel_name
from mappings.to_salesforce import (
    AUTHOR_KINDS,
    BODY_UNITS,
    CHANNELS,
    CONTACT,
    CONVERSATION,
    KINDS,
    MESSAGE,
    STATUSES,
    TASK,
)


@dataclass(frozen=True, slots=True)
class CustomField:
    """One field. `details`: further elements of the Metadata API's CustomField; `values`: of a picklist."""

    name: str
    label: str
    type: str
    help: str = ""
    details: dict[str, str] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    agent_writes: bool = False


@dataclass(frozen=True, slots=True)
class ListView:
    """A list of conversations or messages that somebody works through. `filters`: field, operation, value."""

    name: str
    label: str
    columns: tuple[str, ...]
    filters: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class CustomObject:
    """One object of ours, as a person sees it."""

    name: str
    label: str
    plural: str
    description: str
    name_label: str
    name_format: str | None
    icon: str
    fields: tuple[CustomField, ...]
    compact: tuple[str, ...]
    views: tuple[ListView, ...]
    related: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sections: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()


_CHANNEL_NAMES = tuple(dict.fromkeys(channel_name(slug) for slug in CHANNELS))
_TEXT = {"length": "255"}
_KEY = {"length": "64", "externalId": "true", "unique": "true", "caseSensitive": "false"}


def _lookup(to: str, relationship: str, label: str) -> dict[str, str]:
    # SetNull: a deleted parent empties the lookup, so its children stay.
    return {
        "referenceTo": to,
        "relationshipName": relationship,
        "relationshipLabel": label,
        "deleteConstraint": "SetNull",
    }


CONTACT_FIELDS = (
    CustomField(
        "Identity_Key__c", "Thread: person", "Text", "The person behind this contact, as onethread knows it.", _KEY
    ),
    CustomField(
        "Thread_Made_By_onethread__c", "Thread: made by onethread", "Checkbox", "onethread created this contact.",
        {"defaultValue": "false"},
    ),
    CustomField("Thread_Channels__c", "Thread: channels", "Text", "Where this person writes from.", _TEXT),
    CustomField(
        "Thread_Preferred_Channel__c", "Thread: preferred channel", "Text", "Where this person wrote last.", _TEXT
    ),
    CustomField("Thread_Last_Message_In__c", "Thread: last message in", "DateTime", "Their last message."),
    CustomField("Thread_Last_Message_Out__c", "Thread: last message out", "DateTime", "Our last message."),
    CustomField(
        "Thread_Unanswered_Since__c", "Thread: unanswered since", "DateTime", "Oldest message without an answer."
    ),
    CustomField(
        "Thread_Window_Closes_At__c", "Thread: window closes", "DateTime", "Until then a free text can be sent."
    ),
    CustomField(
        "Thread_Opted_In__c", "Thread: opted in", "MultiselectPicklist", "Channels on which advertising is welcome.",
        {"visibleLines": "4"}, _CHANNEL_NAMES,
    ),
    CustomField(
        "Thread_Opted_Out__c", "Thread: opted out", "MultiselectPicklist", "Channels on which advertising is refused.",
        {"visibleLines": "4"}, _CHANNEL_NAMES,
    ),
)  # fmt: skip

TASK_FIELDS = (CustomField("Thread_External_Id__c", "Thread: message", "Text", "The message behind this task.", _KEY),)
"""On Activity, of which Task is a part; only where messages become Tasks."""

CONVERSATION_OBJECT = CustomObject(
    name=CONVERSATION,
    label="Conversation",
    plural="Conversations",
    description="One thread of one customer with one of our accounts, on any channel. Written by onethread.",
    name_label="Conversation",
    name_format=None,
    icon="Custom53: Bell",
    fields=(
        CustomField("External_Id__c", "External Id", "Text", "onethread finds the record by it.", _KEY),
        CustomField(
            "Contact__c", "Contact", "Lookup", "Who writes.", _lookup(CONTACT, "Conversations", "Conversations")
        ),
        CustomField("Channel__c", "Channel", "Picklist", "WhatsApp, e-mail, ...", {}, _CHANNEL_NAMES),
        CustomField("Channel_Account__c", "Our account", "Text", "Ours on the channel.", _TEXT),
        CustomField("Customer_Handle__c", "Customer address", "Text", "The customer's number, address or id.", _TEXT),
        CustomField("Subject__c", "Subject", "Text", "Of a mail thread.", _TEXT),
        CustomField("First_Message_At__c", "First message", "DateTime"),
        CustomField("Last_Message_In__c", "Last message in", "DateTime", "The customer's last message."),
        CustomField("Last_Message_Out__c", "Last message out", "DateTime", "Our last message."),
        CustomField("Unanswered_Since__c", "Unanswered since", "DateTime", "Oldest message without an answer."),
        CustomField("Window_Closes_At__c", "Window closes", "DateTime", "Until then a free text can be sent."),
        CustomField("Message_Count__c", "Messages", "Number", "", {"precision": "9", "scale": "0"}),
    ),
    compact=("Name", "Contact__c", "Unanswered_Since__c", "Window_Closes_At__c", "Last_Message_In__c"),
    views=(
        ListView(
            "Unanswered",
            "Unanswered",
            ("NAME", "Contact__c", "Channel__c", "Unanswered_Since__c", "Window_Closes_At__c"),
            (("Unanswered_Since__c", "notEqual", ""),),
        ),
        ListView(
            "Window_Closing",
            "Window closing",
            ("NAME", "Contact__c", "Channel__c", "Window_Closes_At__c", "Unanswered_Since__c"),
            (
                ("Unanswered_Since__c", "notEqual", ""),
                ("Window_Closes_At__c", "greaterOrEqual", "TODAY"),
                ("Window_Closes_At__c", "lessOrEqual", "TOMORROW"),
            ),
        ),
        ListView("All", "All conversations", ("NAME", "Contact__c", "Channel__c", "Last_Message_In__c"), ()),
    ),
    related=(
        ("Message__c.Conversation__c", ("Sent_At__c", "Direction__c", "Author__c", "Preview__c", "Status__c")),
    ),
    sections=(
        ("Thread", ("Name", "Contact__c", "Channel__c", "Channel_Account__c", "Customer_Handle__c", "Subject__c"),
         ("Unanswered_Since__c", "Window_Closes_At__c", "Last_Message_In__c", "Last_Message_Out__c",
          "First_Message_At__c", "Message_Count__c", "External_Id__c")),
    ),
)  # fmt: skip

MESSAGE_OBJECT = CustomObject(
    name=MESSAGE,
    label="Message",
    plural="Messages",
    description="One message, in or out. To answer, an agent makes one with direction Outbound and status Queued.",
    name_label="Message number",
    name_format="M-{00000000}",
    icon="Custom53: Bell",
    fields=(
        CustomField("External_Id__c", "External Id", "Text", "onethread finds the record by it.", _KEY),
        CustomField(
            "Contact__c", "Contact", "Lookup", "Who writes, or who is written to.",
            _lookup(CONTACT, "Messages", "Messages"), agent_writes=True,
        ),
        CustomField(
            "Conversation__c", "Conversation", "Lookup", "The thread.",
            _lookup(CONVERSATION, "Messages", "Messages"), agent_writes=True,
        ),
        CustomField(
            "Channel__c", "Channel", "Picklist", "To answer: empty is the conversation's, or where they wrote last.",
            {}, _CHANNEL_NAMES, agent_writes=True,
        ),
        CustomField(
            "Direction__c", "Direction", "Picklist", "Outbound: from us.", {}, ("Inbound", "Outbound"),
            agent_writes=True,
        ),
        CustomField("Kind__c", "Kind", "Picklist", "", {}, KINDS),
        CustomField(
            "Body__c", "Text", "LongTextArea", "The words, as they were written.",
            {"length": str(BODY_UNITS), "visibleLines": "8"}, agent_writes=True,
        ),
        CustomField("Preview__c", "Preview", "Text", "The beginning, for lists.", _TEXT),
        CustomField("Sent_At__c", "Sent", "DateTime", "The channel's time."),
        CustomField("Author__c", "Author", "Text", "", _TEXT),
        CustomField("Author_Kind__c", "Author is", "Picklist", "", {}, AUTHOR_KINDS),
        CustomField(
            "Status__c", "Status", "Picklist", "Set to Queued to send; onethread writes the rest.", {}, STATUSES,
            agent_writes=True,
        ),
        CustomField(
            "Error__c", "What happened", "LongTextArea", "Why it was not sent, and who must act.",
            {"length": "1000", "visibleLines": "3"},
        ),
        CustomField(
            "Attachments__c", "Attachments", "LongTextArea", "Files by name, type and size.",
            {"length": "32000", "visibleLines": "3"},
        ),
        CustomField("In_Reply_To__c", "In reply to", "Text", "External Id of the message answered.", {"length": "64"}),
        CustomField("Edited_At__c", "Edited", "DateTime"),
        CustomField("Removed_At__c", "Removed by the sender", "DateTime"),
        CustomField("Reactions__c", "Reactions", "Text", "", _TEXT),
        CustomField("Origin__c", "Origin", "Text", "direct, comment, mention, ad, form, call.", {"length": "40"}),
        CustomField(
            "Template__c", "Template", "Text", "Name of an approved template, instead of a text.", _TEXT,
            agent_writes=True,
        ),
        CustomField(
            "Template_Language__c", "Template language", "Text", "For example en_US.", {"length": "40"},
            agent_writes=True,
        ),
        CustomField(
            "Template_Parameters__c", "Template parameters", "LongTextArea", "One per line, in order.",
            {"length": "4000", "visibleLines": "3"}, agent_writes=True,
        ),
    ),
    compact=("Preview__c", "Author__c", "Sent_At__c", "Direction__c", "Status__c"),
    views=(
        ListView(
            "Failed_Replies",
            "Failed replies",
            ("NAME", "Contact__c", "Channel__c", "Preview__c", "Status__c", "Sent_At__c"),
            (("Direction__c", "equals", "Outbound"), ("Status__c", "equals", "Failed,Refused,Unknown")),
        ),
        ListView(
            "Waiting_To_Be_Sent",
            "Waiting to be sent",
            ("NAME", "Contact__c", "Channel__c", "Preview__c", "Status__c"),
            (("Direction__c", "equals", "Outbound"), ("Status__c", "equals", "Queued,Sending")),
        ),
        ListView("All", "All messages", ("NAME", "Contact__c", "Channel__c", "Direction__c", "Sent_At__c"), ()),
    ),
    sections=(
        ("Message", ("Contact__c", "Conversation__c", "Channel__c", "Direction__c", "Status__c", "Body__c",
                     "Attachments__c"),
         ("Sent_At__c", "Author__c", "Author_Kind__c", "Kind__c", "Error__c", "Reactions__c", "Edited_At__c",
          "Removed_At__c")),
        ("Template", ("Template__c", "Template_Language__c"), ("Template_Parameters__c",)),
        ("onethread", ("External_Id__c", "In_Reply_To__c"), ("Preview__c", "Origin__c")),
    ),
)  # fmt: skip

OBJECTS = (CONVERSATION_OBJECT, MESSAGE_OBJECT)

# A reply is sent once. Without this rule a second "Queued" on the same record would wait for ever.
SENT_ONCE_RULE = (
    "AND(NOT(ISNEW()), ISPICKVAL(Status__c, 'Queued'), NOT(ISPICKVAL(PRIORVALUE(Status__c), 'Queued')),"
    " NOT(ISPICKVAL(PRIORVALUE(Status__c), 'Draft')), NOT(ISPICKVAL(PRIORVALUE(Status__c), '')))"
)
SENT_ONCE_MESSAGE = "A message is sent once. Clone it and queue the copy to send it again."

INTEGRATION = "onethread_Integration"
AGENT = "onethread_Agent"

FIELDS: dict[str, tuple[CustomField, ...]] = {
    CONTACT: CONTACT_FIELDS,
    CONVERSATION: CONVERSATION_OBJECT.fields,
    MESSAGE: MESSAGE_OBJECT.fields,
    TASK: TASK_FIELDS,
}
"""Object -> our fields on it."""
