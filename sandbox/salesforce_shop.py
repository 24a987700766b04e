"""What the people of the demo's shop do in Salesforce, and what the org holds, in the form in which the demo counts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from mappings.crm_words import channel_name
from sandbox.salesforce.app import INTEGRATION, MY_DOMAIN, SalesforceApp
from sandbox.salesforce.people import CONVERSATION, MESSAGE

_CONTACT_PREFIX = "003"
_FIELDS = {"firstname": "FirstName", "lastname": "LastName", "email": "Email", "phone": "Phone"}


class SalesforceShop:
    """An org as the demo's stage knows a CRM: the same verbs and the same state as HubSpot's stand-in.

    Args:
        app: the org.
        url: where it answers, by plain HTTP.
    """

    def __init__(self, app: SalesforceApp, url: str) -> None:
        self._app = app
        self._url = url

    def environment(self) -> dict[str, str]:
        """The variables that connect tap, target and set-up to the org."""
        values = {
            "ORG_ID": self._app.org_id, "DOMAIN": MY_DOMAIN.removesuffix(".salesforce.com"), "API_URL": self._url,
            "CONSUMER_KEY": self._app.consumer_key, "CONSUMER_SECRET": self._app.consumer_secret,
        }  # fmt: skip
        return {f"ONETHREAD_SALESFORCE_{name}": value for name, value in values.items()}

    def create_contact_as_person(self, properties: Mapping[str, str]) -> str:
        """A Contact that a person of the shop makes; its id."""
        values = {field: properties[name] for name, field in _FIELDS.items() if name in properties}
        return self._app.create_contact_as_person(**values)

    def edit_contact_as_agent(self, contact_id: str, properties: Mapping[str, str]) -> None:
        """An agent writes an answer: an outbound message, queued, on the thread of that channel where there is one."""
        text, channel = properties["onethread_reply_text"], properties["onethread_reply_channel"]
        wanted = None if channel == "auto" else channel_name(channel)
        with self._app.lock:
            threads = [
                one["Id"]
                for one in self._app.org.live(CONVERSATION)
                if one.get("Contact__c") == contact_id and wanted is not None and one.get("Channel__c") == wanted
            ]
            if threads:
                self._app.write_reply_as_agent(threads[-1], text)
                return
            # Nobody has written there yet, or it is left to onethread where to answer: then the contact is enough.
            reply = {"Contact__c": contact_id, "Direction__c": "Outbound", "Status__c": "Queued", "Body__c": text}
            self._app.create_as_person(MESSAGE, {**reply, **({"Channel__c": wanted} if wanted else {})})

    def state(self) -> dict[str, Any]:
        """Contacts, and messages that were written or sent under ``communications``, as HubSpot's stand-in has them."""
        with self._app.lock:
            org, integration_user = self._app.state(), self._app.users[INTEGRATION].user_id
        contacts, messages, threads = org["contacts"], org["messages"], org["conversations"]
        communications: dict[str, dict[str, Any]] = {}
        shown: dict[str, list[str]] = {key: [] for key in contacts}
        replies: dict[str, Any] = {}
        for key, message in messages.items():
            thread = threads.get(message.get("Conversation__c"), {})
            contact_id = message.get("Contact__c")
            if message.get("Sent_At__c"):
                on = [contact_id] if contact_id in contacts else []
                communications[key] = {"properties": _as_activity(message, thread), "contacts": on}
                for one in on:
                    shown[one].append(key)
            if message["CreatedById"] != integration_user:  # the last one of each contact stays
                replies[contact_id or thread.get("Contact__c")] = message
        return {
            "contacts": {
                key: {"properties": _as_properties(one, replies.get(key, {})), "communications": shown[key]}
                for key, one in contacts.items()
            },
            "communications": communications,
            "archived_contacts": [one for one in org["deleted"] if one.startswith(_CONTACT_PREFIX)],
        }

    def records(self) -> dict[str, Any]:
        """All that is on contacts, conversations and messages, by record id. Each change moves a SystemModstamp."""
        with self._app.lock:
            org = self._app.state()
        return {**org["contacts"], **org["conversations"], **org["messages"]}

    def api_calls(self) -> int:
        """The calls that the org has counted in the last 24 hours."""
        with self._app.lock:
            return int(self._app.state()["api_calls"])


def _as_activity(message: Mapping[str, Any], thread: Mapping[str, Any]) -> dict[str, str]:
    """A ``Message__c`` as one of HubSpot's activities: heading, words and reference apart."""
    channel = message.get("Channel__c") or thread.get("Channel__c")  # an agent's answer need not name it again
    author = message.get("Author__c") or thread.get("Customer_Handle__c") or "customer"
    who = f"{author} → us" if message.get("Direction__c") == "Inbound" else "us → customer"
    words = "\n".join(filter(None, (message.get("Body__c"), message.get("Attachments__c"))))
    parts = (f"{channel} · {who}", words, f"ref {message.get('External_Id__c')}")
    body = "".join(f"<p>{html.escape(one, quote=False)}</p>" for one in parts)
    return {"hs_communication_body": body, "hs_timestamp": str(message["Sent_At__c"])}


def _as_properties(contact: Mapping[str, Any], reply: Mapping[str, Any]) -> dict[str, str]:
    """A ``Contact`` and the last answer that an agent wrote to it, as the properties of one of HubSpot's contacts."""
    return {
        "firstname": contact.get("FirstName") or "",
        "lastname": contact.get("LastName") or "",
        "onethread_projection": "true" if contact.get("Thread_Made_By_onethread__c") else "false",
        "onethread_channels": contact.get("Thread_Channels__c") or "",
        "onethread_reply_status": reply.get("Status__c") or "",
        "onethread_reply_detail": reply.get("Error__c") or "",
    }
