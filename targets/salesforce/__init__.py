"""Salesforce, the writing side: see salesforce.md beside this folder."""

from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.setup import setup_salesforce
from targets.salesforce.target import TargetSalesforce

__all__ = ["SalesforceTargetSettings", "TargetSalesforce", "setup_salesforce"]
