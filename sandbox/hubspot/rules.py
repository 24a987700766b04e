"""Every rule of HubSpot's that the stand-in enforces, with its source; hubspot.md says it in sentences.

Second-hand: taken from a copy or from notes of others who read that page then; the rest was read as dated.
A judge is named only where something not written here would notice if we were wrong: the models of HubSpot's own
client, generated from HubSpot's API documents, with their validation switched on.
"""

from __future__ import annotations

from sandbox.base import Rule

_CLIENT = "hubspot-api-client 12.0.0 (models with client_side_validation)"
_DOCS = "developers.hubspot.com/docs/api-reference"
_SCHEMA = "HubSpot's API document, as compiled into hubspot-api-client 12.0.0"
_ERRORS = f"{_DOCS}/error-handling, read 2026-11"
_USAGE = "developers.hubspot.com/docs/api/usage-details, second-hand, 2026-09-21"
_CONTACTS = f"{_DOCS}/latest/crm/objects/contacts/guide, second-hand, 2026-10"
_COMMUNICATIONS = "developers.hubspot.com/docs/api/crm/communications, read 2026-11"
_PROPERTIES = f"{_SCHEMA}; at most 10 second-hand, 2026-10"
_SEARCH = f"{_DOCS}/2026-03/crm/search-the-crm, second-hand, 2026-09-21"
_ASSOCIATIONS = f"{_DOCS}/crm-associations-v4/guide, second-hand, 2026-10"
_MERGE = "developers.hubspot.com/changelog/updated-merge-functionality-for-contacts-and-companies, second-hand, 2026-10"
_UNIQUE = (
    "developers.hubspot.com/changelog/updating-objects-by-custom-field-and-adding-owner-properties-via-the-api, "
    "read 2026-11"
)
_ASSOCIATION_SIZES = (
    "developers.hubspot.com/changelog/bug-fix-batch-read-limit-for-hubspot-associations-api, read 2026-11 (reading); "
    f"{_ASSOCIATIONS} (creating); the page size is our reading"
)
_FILES = "github.com/HubSpot/HubSpot-public-api-spec-collection @9989379, PublicApiSpecs/Files, read 2026-11"
_OAUTH = f"{_DOCS}/latest/authentication/manage-oauth-tokens, read 2026-11"
_SDK = "hubspot-sdk 0.1.0a9 (strict validation of its models)"
_TYPES = "HubSpot's API document, as compiled into hubspot-sdk 0.1.0a9"
_CHANNELS = f"{_DOCS}/2026-03/conversations/custom-channels/guide, second-hand, 2026-10"
_OURS = "nothing found; our reading"

RULES = (
    # what a request and an answer look like
    Rule("bearer_token", "developers.hubspot.com/docs/faq/api-error-responses, read 2026-11", "documented"),
    Rule("paths", _SCHEMA, "documented", _CLIENT),
    Rule("answer_shapes", _SCHEMA, "documented", _CLIENT),
    Rule("error_body", _ERRORS, "documented", _CLIENT),
    Rule("account_details", f"{_DOCS}/account-info, second-hand, 2026-10", "documented"),
    Rule("rate_limit_429", _USAGE, "documented"),
    Rule("rate_headers", _USAGE, "documented"),
    Rule("associations_have_their_own_limit", _ASSOCIATIONS, "documented"),
    # properties
    Rule("property_kinds", _SCHEMA, "documented", _CLIENT),
    Rule("property_exists", _OURS, "assumed"),
    Rule("unique_property_is_fixed", _PROPERTIES, "documented"),
    Rule("unique_communication_property", _OURS, "assumed"),
    Rule("unknown_property", "github.com/hubspot-net/HubSpot.NET/issues/50, read 2026-11", "observed"),
    Rule("unknown_names_are_ignored_on_reading", _SCHEMA, "documented"),
    Rule(
        "value_types",
        "developers.hubspot.com/changelog/breaking-change-enhanced-validations-for-non-string-properties-in-"
        "hubspots-crmobject-apis, second-hand, 2026-11",
        "documented",
    ),
    Rule("read_only_values", _OURS, "assumed"),
    Rule("unique_values", _PROPERTIES, "documented"),
    Rule("unchanged_value_makes_no_history", _OURS, "assumed"),
    Rule("property_history", _SCHEMA, "documented", _CLIENT),
    Rule("history_keeps_twenty", _OURS, "assumed"),
    # contacts
    Rule("email_is_unique", "github.com/stape-io/hubspot-tag/issues/7, read 2026-11", "observed"),
    Rule("email_lower_case", _OURS, "assumed"),
    Rule("additional_emails", "measurement by a third party against a live account, 2026-10-07", "observed"),
    Rule("addressed_by_unique_property", _UNIQUE, "documented"),
    Rule("archive_is_quiet", "github.com/n8n-io/n8n/pull/3219, read 2026-11", "observed"),
    Rule("list_pages", _SCHEMA, "documented", _CLIENT),
    Rule("privacy_delete_blocks_the_address", _SCHEMA, "documented"),
    # batches
    Rule("batch_limits", _CONTACTS, "documented"),
    Rule("history_batch_limit", f"{_SCHEMA}: reading history lowers the limit; the number is our reading", "assumed"),
    Rule("multi_status", _ERRORS, "documented"),
    Rule("whole_batch_fails_without_trace_ids", _ERRORS, "documented"),
    Rule("duplicate_inputs", "github.com/segmentio/action-destinations/pull/3969, read 2026-11", "observed"),
    Rule("batch_read_missing", "community.hubspot.com, APIs & Integrations, m-p/1101616, read 2026-11", "observed"),
    Rule("batch_update_missing", _OURS, "assumed"),
    Rule("upsert_says_new", _SCHEMA, "documented", _CLIENT),
    Rule(
        "upsert_needs_unique_property",
        "github.com/segmentio/action-destinations/pull/3957, read 2026-11",
        "observed",
    ),
    Rule("no_partial_upsert_by_email", f"{_CONTACTS}: one sentence; how it is meant is our reading", "assumed"),
    Rule("upsert_takes_no_associations", _SCHEMA, "documented", _CLIENT),
    Rule("batch_order_is_not_promised", _OURS, "assumed"),
    # merge
    Rule("merge_makes_a_new_id", _MERGE, "documented"),
    Rule("merged_ids_redirect_on_single_calls", _MERGE, "documented"),
    Rule("merged_ids_fail_in_batch_update", _CONTACTS, "documented"),
    Rule("merged_ids_redirect_in_batch_read", "community.hubspot.com, m-p/1101616, read 2026-11", "observed"),
    Rule("primary_values_win", _MERGE, "documented"),
    Rule("merge_moves_associations", _MERGE, "documented"),
    Rule("merge_loses_the_other_unique_value", _OURS, "assumed"),
    Rule("merge_identity_limit", _ERRORS, "documented"),
    # search
    Rule("search_operators", _SCHEMA, "documented", _CLIENT),
    Rule("search_limits", _SEARCH, "documented"),
    Rule("search_lag", _SEARCH, "documented"),
    Rule("search_never_shows_archived", _SEARCH, "documented"),
    Rule("search_rate", _SEARCH, "documented"),
    # communications and associations
    Rule("communication_required_properties", _COMMUNICATIONS, "documented"),
    Rule("communication_channels", _COMMUNICATIONS, "documented"),
    Rule("inline_associations", _COMMUNICATIONS, "documented"),
    Rule("inline_associations_need_live_contacts", _OURS, "assumed"),
    Rule("association_types", _ASSOCIATIONS, "documented"),
    Rule("association_batch_limits", _ASSOCIATION_SIZES, "documented"),
    Rule("associating_again_is_harmless", "claim of a third party, second-hand, 2026-10", "assumed"),
    Rule("reading_no_associations", _OURS, "assumed"),
    Rule("notes", f"{_DOCS}/crm-notes-v3/guide, second-hand, 2026-10", "documented"),
    # custom channels of the inbox
    Rule("dated_paths", f"{_TYPES}; 2026-09 as 2026-03: assumed", "documented", _SDK),
    Rule("channel_registration", _CHANNELS, "documented"),
    Rule("channel_shapes", _TYPES, "documented", _SDK),
    Rule("delivery_identifier_types", _TYPES, "documented", _SDK),
    Rule("inbox_status_values", _TYPES, "documented", _SDK),
    Rule("publishing_again", f"{_CHANNELS}; the answer to the second one is our reading", "assumed"),
    Rule("message_of_a_live_contact", _OURS, "assumed"),
    Rule("text_is_cut", f"{_TYPES}: truncationStatus; the limit is an option", "assumed"),
    Rule("agents_answer_is_posted", "public code that read real events, read 2026-11", "observed"),
    Rule(
        "channel_signature",
        "developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation, read"
        " 2026-11; that these posts carry it: observed in public code",
        "documented",
        "hubspot-api-client 12.0.0 (hubspot.utils.signature)",
    ),
    Rule("posting_again", _ERRORS, "documented"),
    Rule("own_messages_are_posted", _OURS, "assumed"),
    Rule("signed_urls", _TYPES, "documented"),
    # files, tokens of apps
    Rule(
        "file_upload", f"{_FILES}; a larger file than the limit (an option) is 413: our reading", "documented", _CLIENT
    ),
    Rule("file_duplicates", f"{_FILES}; that uploads take them too: public code", "documented"),
    Rule("private_files", _FILES, "documented", _CLIENT),
    Rule("files_are_deleted_for_good", _FILES, "documented", _CLIENT),
    Rule("files_of_notes", f"{_DOCS}/crm-notes-v3/guide, read 2026-11", "documented"),
    Rule("files_of_communications", _OURS, "assumed"),
    Rule("files_of_messages", f"{_TYPES}; that the file must exist is our reading", "documented"),
    Rule("missing_scopes", _ERRORS, "documented"),
    Rule("token_endpoint", f"{_OAUTH}; statuses of refusals: public code", "documented", _CLIENT),
    Rule(
        "access_tokens_end", f"{_OAUTH}; the 401: github.com/airbytehq/airbyte/issues/74726, read 2026-11", "observed"
    ),
    Rule("refresh_tokens_rotate", _OURS, "assumed"),
    Rule("logging_an_activity_touches_the_contact", "third-party notes on a live account, 2026-09-21", "observed"),
)
