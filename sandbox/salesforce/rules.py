"""Every rule of Salesforce's that the stand-in enforces, with its source; salesforce.md says it in sentences.

A judge is named only where something not written here would notice if we were wrong: jsforce,
Salesforce's metadata.wsdl as shipped in simple-salesforce (read by zeep and as an XML schema), a published grammar.
simple-salesforce drives everything as a client, but is too lenient to be called a judge.
"""

from __future__ import annotations

from sandbox.base import Rule

_JSFORCE = "jsforce 3.10.26"
_WSDL = "Salesforce's metadata.wsdl (v63) in simple-salesforce 1.12.10, through zeep"
_SOQL = "python-soql-parser 0.2.0"
_DOCS = "developer.salesforce.com/docs"
_REST = f"{_DOCS}/platform/api-rest/guide"
_COLLECTIONS = f"{_REST}/resources-composite-sobjects-collections-upsert.html, read 2026-11"
_COMPOSITE = f"{_REST}/resources-composite-composite-post.html, read 2026-11"
_ALL_OR_NONE = f"{_REST}/resources-composite-allornone.md, read 2026-11"
_BULK = f"{_DOCS}/platform/api-asynch/guide/bulk-api-2-0-ingest.html, read 2026-11"
_MERGE = f"{_DOCS}/atlas.en-us.192.0.api.meta/api/sforce_api_calls_merge.htm, read 2026-11"
_SOAP = f"{_DOCS}, SOAP API Developer Guide, second-hand, 2026-10"
_OBJECTS = f"{_DOCS}, Object Reference for the Salesforce Platform, second-hand, 2026-10"
_METADATA = f"{_DOCS}, Metadata API Developer Guide, second-hand, 2026-10"
_SELECT = f"{_DOCS}, SOQL and SOSL Reference, second-hand, 2026-10"
_LIMITS = f"{_DOCS}, Developer Limits and Allocations Quick Reference, second-hand, 2026-10"
_STATUS = f"{_DOCS}, REST API Developer Guide, Status Codes and Error Responses, second-hand, 2026-10"
_FLOWS = "help.salesforce.com, OAuth 2.0 flows of External Client Apps, second-hand, 2026-10"
_OURS = "nothing found; our reading"

RULES = (
    # log-in and what surrounds a call
    Rule("client_credentials", f"{_FLOWS}; simple-salesforce 1.12.10, login.py", "documented"),
    Rule("client_credentials_need_my_domain", _FLOWS, "documented"),
    Rule("jwt_bearer", f"{_FLOWS}; github.com/simstudioai/sim/pull/6508 (audience), read 2026-11", "documented"),
    Rule("jwt_lifetime", f"{_FLOWS}: three minutes; that five are taken is our reading", "assumed"),
    Rule("no_user_name_and_password", _FLOWS, "documented"),
    Rule("session_id", _STATUS, "documented", _JSFORCE),
    Rule("versions", f"{_DOCS}, API End-of-Life Policy, second-hand, 2026-10; the error's body is ours", "documented"),
    Rule("daily_limit", f"{_LIMITS}; 403 and its words second-hand, 2026-10", "documented"),
    Rule("limit_info", _LIMITS, "documented", _JSFORCE),
    Rule("error_body", _STATUS, "documented", _JSFORCE),
    Rule("error_codes", f"{_SOAP}, StatusCode", "documented", _WSDL),
    Rule("server_unavailable", _STATUS, "documented"),
    Rule("slow_calls", f"{_LIMITS}: a call ends after ten minutes", "documented"),
    Rule(
        "storage_limit", f"{_SOAP}, StatusCode; 2 KB a record: help.salesforce.com, second-hand, 2026-10", "documented"
    ),
    Rule("uri_limit", f"{_STATUS}: 414; the number of bytes second-hand, 2026-10", "documented"),
    # schema
    Rule("describe", f"{_SOAP}, DescribeSObjectResult", "documented", _JSFORCE),
    Rule("record_ids", f"{_OBJECTS}, ID Field Type", "documented", _JSFORCE),
    Rule("required_fields", "github.com/apache/camel/pull/57, read 2026-11", "observed"),
    Rule("string_lengths", _OBJECTS, "documented"),
    Rule("text_is_trimmed", _OURS, "assumed"),
    Rule("email_addresses", f"{_SOAP}, StatusCode; how an address is checked is ours", "documented"),
    Rule("restricted_picklists", f"{_METADATA}, ValueSet", "documented"),
    Rule("json_types", _OURS, "assumed"),
    Rule("unknown_fields", "github.com/MinnPost/object-sync-for-salesforce/issues/194, read 2026-11", "observed"),
    Rule("read_only_fields", "github.com/OpenFn/docs/issues/92, read 2026-11", "observed"),
    Rule("field_level_security", "github.com/forcedotcom/Data-Migration-Tool/issues/5, read 2026-11", "observed"),
    Rule("object_permissions", f"{_METADATA}, PermissionSet", "documented"),
    Rule("lookups_are_checked", f"{_SOAP}, StatusCode", "documented"),
    Rule("parent_by_external_id", f"{_REST}, Insert or Update (Upsert) a Record; simple-salesforce", "documented"),
    Rule("unique_values", "github.com/k-capehart/go-salesforce/issues/133, read 2026-11", "observed"),
    Rule("deleted_records", f"{_SOAP}, StatusCode", "documented"),
    Rule("system_fields", f"{_OBJECTS}, System Fields", "documented"),
    Rule("whole_seconds", _OURS, "assumed"),
    # single rows
    Rule("create_read_update_delete", f"{_REST}, sObject Rows", "documented", _JSFORCE),
    Rule("upsert_says_created", f"{_REST}, sObject Rows by External ID", "documented", _JSFORCE),
    Rule("upsert_of_several_is_300", f"{_REST}; simple-salesforce 1.12.10, util.py", "documented"),
    Rule("key_not_in_the_body", _OURS, "assumed"),
    Rule("upsert_needs_external_id", "github.com/PipedreamHQ/pipedream/issues/14812, read 2026-11", "observed"),
    # duplicates and locks
    Rule("duplicates_detected", "notes of third parties on live orgs, second-hand, 2026-10", "observed"),
    Rule("allow_save_passes_alerts_only", f"{_REST}, Duplicate Rule Header", "documented"),
    Rule("row_locks", f"{_DOCS}, Record-Level Locking, second-hand, 2026-10", "documented"),
    Rule("lookups_lock_their_parent", _OURS, "assumed"),
    # collections and composite
    Rule("collections", _COLLECTIONS, "documented", _JSFORCE),
    Rule("collections_keep_the_order", _COLLECTIONS, "documented"),
    Rule("collections_limits", f"{_COLLECTIONS}; the words: public code that quotes a live org, 2026-11", "documented"),
    Rule("collections_all_or_none", _ALL_OR_NONE, "documented"),
    Rule("collections_refuse_unknown_fields_as_a_whole", _OURS, "assumed"),
    Rule("same_key_twice", _OURS, "assumed"),
    Rule("composite", _COMPOSITE, "documented"),
    Rule("composite_limits", _COMPOSITE, "documented"),
    Rule("composite_counts_once", _COMPOSITE, "documented"),
    Rule("composite_references", _COMPOSITE, "documented"),
    Rule("composite_all_or_none", _ALL_OR_NONE, "documented"),
    Rule("composite_headers_are_each_its_own", f"{_COMPOSITE}: headers for each; not inherited is ours", "assumed"),
    # queries
    Rule("soql", _SELECT, "documented", _SOQL),
    Rule("soql_and_or_need_parentheses", _SELECT, "documented"),
    Rule("soql_literals", _SELECT, "documented"),
    Rule("soql_long_text", _SELECT, "documented"),
    Rule("soql_limits", _LIMITS, "documented"),
    Rule("query_pages", f"{_REST}, Query", "documented", _JSFORCE),
    Rule("query_all", f"{_REST}, QueryAll", "documented", _JSFORCE),
    # bulk
    Rule("bulk_ingest", _BULK, "documented", _JSFORCE),
    Rule("bulk_upload_once", _BULK, "documented"),
    Rule("bulk_cells", _BULK, "documented"),
    Rule("bulk_limits", f"{_LIMITS}; what happens beyond 32,000 characters is ours", "assumed"),
    Rule("bulk_whole_job_fails", "notes of third parties on live orgs, second-hand, 2026-10", "observed"),
    Rule("bulk_query", _BULK, "documented", _JSFORCE),
    # files
    Rule("files", f"{_OBJECTS}, ContentVersion", "documented"),
    # SOAP
    Rule("soap_session", _SOAP, "documented", _JSFORCE),
    Rule("no_soap_login", f"{_SOAP}: login() is not in v65 and later; earlier ones refused here", "documented"),
    Rule("merge", _MERGE, "documented", _JSFORCE),
    Rule("merge_limits", _MERGE, "documented"),
    Rule("merge_moves_children", f"{_MERGE}; custom lookups second-hand, 2026-10", "documented"),
    Rule("merge_keeps_the_others_unique_value", _OURS, "assumed"),
    Rule("empty_recycle_bin", _SOAP, "documented", _JSFORCE),
    # metadata
    Rule("deploy", f"{_METADATA}, deploy()", "documented", _WSDL),
    Rule("deploy_xml", f"{_METADATA}; the schema itself", "documented", _WSDL),
    Rule("deploy_names_every_file", f"{_METADATA}, package.xml", "documented"),
    Rule("deploy_check_only", f"{_METADATA}, DeployOptions", "documented"),
    Rule("deploy_rolls_back", f"{_METADATA}, DeployOptions", "documented"),
    Rule("deploy_needs_a_right", f"{_METADATA}, Permissions", "documented"),
    Rule("custom_fields", f"{_METADATA}, CustomField", "documented"),
    Rule("permission_sets_leave_required_fields", "deploy logs in public repositories, read 2026-11", "observed"),
    Rule("permissions_depend_on_each_other", "deploy logs in public repositories, read 2026-11", "observed"),
)
