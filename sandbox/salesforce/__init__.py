"""A stand-in for a Salesforce org: OAuth, REST, Bulk API 2.0, SOAP merge and deploy; see salesforce.md beside it."""

from sandbox.salesforce.app import SalesforceApp
from sandbox.salesforce.server import SalesforceSandbox

__all__ = ["SalesforceApp", "SalesforceSandbox"]
