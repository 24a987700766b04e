"""The standard objects of a new org, with the fields that a connector of conversations meets.

Source: developer.salesforce.com, Object Reference for the Salesforce Platform, pages of each object, second-hand,
2026-10; lengths from describes of developer orgs published in public repositories (observed).
"""

from __future__ import annotations

from typing import Any

from sandbox.salesforce.schema import Field, ObjectType, Schema

_READ_ONLY: dict[str, Any] = {"createable": False, "updateable": False}
_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")


def system_fields() -> list[Field]:
    """What every record has."""
    made: dict[str, Any] = {**_READ_ONLY, "nillable": False, "filled": True}
    return [
        Field("Id", "id", "Record ID", 18, **made),
        Field("IsDeleted", "boolean", "Deleted", **made),
        Field("CreatedDate", "datetime", "Created Date", **made),
        reference("CreatedById", "Created By ID", "User", "CreatedBy", **made),
        Field("LastModifiedDate", "datetime", "Last Modified Date", **made),
        reference("LastModifiedById", "Last Modified By ID", "User", "LastModifiedBy", **made),
        Field("SystemModstamp", "datetime", "System Modstamp", **made),
    ]


def owner_field() -> Field:
    """Who owns a record; the user who makes it, unless said otherwise."""
    return reference("OwnerId", "Owner ID", "User", "Owner", nillable=False, filled=True)


def reference(name: str, label: str, to: str | tuple[str, ...], relationship: str, **more: Any) -> Field:
    """A lookup."""
    targets = (to,) if isinstance(to, str) else to
    return Field(name, "reference", label, 18, reference_to=targets, relationship_name=relationship, **more)


def _text(name: str, length: int, label: str = "", **more: Any) -> Field:
    return Field(name, "string", label or name, length, **more)


def _phones(*names: str) -> list[Field]:
    return [Field(name, "phone", label, 40) for name, _, label in (one.partition(":") for one in names)]


def _address(prefix: str = "") -> list[Field]:
    return [
        Field(f"{prefix}Street", "textarea", f"{prefix} Street".strip(), 255),
        _text(f"{prefix}City", 40, f"{prefix} City".strip()),
        _text(f"{prefix}State", 80, f"{prefix} State/Province".strip()),
        _text(f"{prefix}PostalCode", 20, f"{prefix} Zip/Postal Code".strip()),
        _text(f"{prefix}Country", 80, f"{prefix} Country".strip()),
    ]


def _person_name() -> list[Field]:
    salutations = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.")
    return [
        _text("LastName", 80, "Last Name", nillable=False),
        _text("FirstName", 40, "First Name"),
        Field("Salutation", "picklist", "Salutation", 40, picklist=salutations),
        _text("Name", 121, "Full Name", nillable=False, **_READ_ONLY),
    ]


def _kind(name: str, plural: str, prefix: str, fields: list[Field], **more: Any) -> ObjectType:
    label = more.pop("label", name)
    return ObjectType(name, label, plural, prefix, {one.name: one for one in [*system_fields(), *fields]}, **more)


def _merged(name: str) -> Field:
    return reference("MasterRecordId", "Master Record ID", name, "MasterRecord", **_READ_ONLY)


def _yes_no(name: str, label: str, **more: Any) -> Field:
    return Field(name, "boolean", label, nillable=False, filled=True, default=False, **more)


def standard_schema() -> Schema:
    """The objects of a new org."""
    account = [
        _merged("Account"), _text("Name", 255, "Account Name", nillable=False),
        Field("Type", "picklist", "Account Type", 255, picklist=("Prospect", "Customer", "Partner", "Other")),
        reference("ParentId", "Parent Account ID", "Account", "Parent"), *_address("Billing"),
        *_phones("Phone:Account Phone", "Fax:Account Fax"), _text("AccountNumber", 40, "Account Number"),
        Field("Website", "url", "Website", 255), Field("Industry", "picklist", "Industry", 255, picklist=("Retail",)),
        Field("Description", "textarea", "Account Description", 32000), owner_field(),
    ]  # fmt: skip
    contact = [
        _merged("Contact"), reference("AccountId", "Account ID", "Account", "Account"), *_person_name(),
        *_address("Mailing"),
        *_phones("Phone:Business Phone", "Fax:Business Fax", "MobilePhone:Mobile Phone", "HomePhone:Home Phone",
                 "OtherPhone:Other Phone", "AssistantPhone:Asst. Phone"),
        reference("ReportsToId", "Reports To ID", "Contact", "ReportsTo"), Field("Email", "email", "Email", 80),
        _text("Title", 128), _text("Department", 80), _text("AssistantName", 40, "Assistant's Name"),
        Field("LeadSource", "picklist", "Lead Source", 255, picklist=_SOURCES), Field("Birthdate", "date", "Birthdate"),
        Field("Description", "textarea", "Contact Description", 32000),
        _yes_no("HasOptedOutOfEmail", "Email Opt Out"), _yes_no("HasOptedOutOfFax", "Fax Opt Out"),
        _yes_no("DoNotCall", "Do Not Call"), Field("LastActivityDate", "date", "Last Activity", **_READ_ONLY),
        owner_field(),
    ]  # fmt: skip
    lead = [
        _merged("Lead"), *_person_name(), _text("Title", 128), _text("Company", 255, nillable=False), *_address(),
        *_phones("Phone:Phone", "MobilePhone:Mobile Phone", "Fax:Fax"), Field("Email", "email", "Email", 80),
        Field("Website", "url", "Website", 255), Field("Description", "textarea", "Description", 32000),
        Field("LeadSource", "picklist", "Lead Source", 255, picklist=_SOURCES),
        Field("Status", "picklist", "Status", 255, nillable=False, filled=True, default="Open - Not Contacted",
              picklist=("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")),
        _yes_no("HasOptedOutOfEmail", "Email Opt Out"), _yes_no("DoNotCall", "Do Not Call"),
        _yes_no("IsConverted", "Converted", **_READ_ONLY),
        reference("ConvertedContactId", "Converted Contact ID", "Contact", "ConvertedContact", **_READ_ONLY),
        owner_field(),
    ]  # fmt: skip
    task = [
        reference("WhoId", "Name ID", ("Contact", "Lead"), "Who"),
        reference("WhatId", "Related To ID", ("Account",), "What"), Field("Subject", "combobox", "Subject", 255),
        Field("ActivityDate", "date", "Due Date Only"),
        Field("Status", "picklist", "Status", 255, nillable=False, filled=True, default="Not Started",
              picklist=("Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred")),
        Field("Priority", "picklist", "Priority", 255, nillable=False, filled=True, default="Normal",
              picklist=("High", "Normal", "Low")),
        Field("Description", "textarea", "Description", 32000),
        Field("TaskSubtype", "picklist", "Task Subtype", 40, updateable=False, restricted=True, default="Task",
              picklist=("Task", "Email", "ListEmail", "Cadence", "Call", "LinkedIn")),
        owner_field(),
    ]  # fmt: skip
    user = [
        _text("Username", 80, nillable=False), *_person_name(), Field("Email", "email", "Email", 128, nillable=False),
        _text("Alias", 8), Field("IsActive", "boolean", "Active", nillable=False),
        Field("UserType", "picklist", "User Type", 40, picklist=("Standard",), **_READ_ONLY),
    ]  # fmt: skip
    version = [
        reference("ContentDocumentId", "ContentDocument ID", "ContentDocument", "ContentDocument", updateable=False,
                  nillable=False, filled=True),
        _yes_no("IsLatest", "Is Latest", **_READ_ONLY), _text("VersionNumber", 20, "Version Number", **_READ_ONLY),
        _text("Title", 255, nillable=False, filled=True), Field("Description", "textarea", "Description", 1000),
        Field("PathOnClient", "string", "Path On Client", 500, nillable=False, updateable=False),
        Field("VersionData", "base64", "Version Data", updateable=False),
        Field("ContentSize", "int", "Size", **_READ_ONLY), _text("FileType", 20, "File Type", **_READ_ONLY),
        _text("FileExtension", 40, "File Extension", **_READ_ONLY),
        reference("FirstPublishLocationId", "First Publish Location ID", ("User", "Account", "Contact", "Lead"),
                  "FirstPublishLocation", updateable=False), owner_field(),
    ]  # fmt: skip
    document = [
        _text("Title", 255, nillable=False), _text("FileType", 20, **_READ_ONLY),
        reference("LatestPublishedVersionId", "Latest Version ID", "ContentVersion", "LatestPublishedVersion",
                  **_READ_ONLY), owner_field(),
    ]  # fmt: skip
    link = [
        reference("ContentDocumentId", "ContentDocument ID", "ContentDocument", "ContentDocument", nillable=False,
                  updateable=False, delete_constraint="Cascade"),
        reference("LinkedEntityId", "Linked Entity ID", ("User", "Account", "Contact", "Lead"), "LinkedEntity",
                  nillable=False, updateable=False),
        Field("ShareType", "picklist", "Share Type", 40, filled=True, default="V", picklist=("V", "C", "I"),
              restricted=True),
    ]  # fmt: skip
    organization = [
        _text("Name", 80), Field("IsSandbox", "boolean", "Is Sandbox"),
        _text("OrganizationType", 40, "Organization Type"), _text("InstanceName", 5, "Instance Name"),
    ]  # fmt: skip
    permission_set = [_text("Name", 80, nillable=False), _text("Label", 80), _yes_no("IsOwnedByProfile", "Profile's")]
    assignment = [
        reference("AssigneeId", "Assignee ID", "User", "Assignee", nillable=False, updateable=False),
        reference("PermissionSetId", "PermissionSet ID", "PermissionSet", "PermissionSet", nillable=False,
                  updateable=False, delete_constraint="Cascade"),
    ]  # fmt: skip
    fixed: dict[str, Any] = {"createable": False, "updateable": False, "deletable": False}
    return Schema(
        [
            _kind("Account", "Accounts", "001", account, mergeable=True),
            _kind("Contact", "Contacts", "003", contact, mergeable=True),
            _kind("Lead", "Leads", "00Q", lead, mergeable=True),
            _kind("Task", "Tasks", "00T", task),
            _kind("User", "Users", "005", user, **fixed),
            _kind("ContentVersion", "Content Versions", "068", version, deletable=False),
            _kind("ContentDocument", "Content Documents", "069", document, createable=False),
            _kind("ContentDocumentLink", "Content Document Links", "06A", link),
            _kind("Organization", "Organizations", "00D", organization, **fixed),
            _kind("PermissionSet", "Permission Sets", "0PS", permission_set, **fixed, label="Permission Set"),
            _kind("PermissionSetAssignment", "Permission Set Assignments", "0Pa", assignment, updateable=False),
        ]
    )
