"""How a Salesforce org is opened, for everything that calls it. Pure.

Two ways: client credentials (the app's secret), or a signed assertion (JWT bearer). User name and password are not
offered: External Client Apps do not take them. Source: help.salesforce.com, OAuth 2.0 Client Credentials Flow and JWT
Bearer Flow, read 2026-11, documented. The form itself is sent by simple-salesforce.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError, SettingsError, UnavailableError
from mappings.settings import PluginSettings
from mappings.to_salesforce import salesforce_id

PLATFORM = "Salesforce"

OrgId = Annotated[str, Field(pattern=r"^00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?$"), AfterValidator(salesforce_id)]


class SalesforceLogin(PluginSettings):
    """Which org, how it is opened, and how long a call goes on."""

    org_id: OrgId = Field(description="Organization id (Setup, Company Information); checked against the org.")
    domain: str = Field(
        "login",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
        description="Where to log in: login, test, or My Domain without .salesforce.com (acme.my); client credentials"
        " need My Domain.",
    )
    consumer_key: SecretStr = Field(description="Consumer key of the External Client App.")
    consumer_secret: SecretStr | None = Field(None, description="Client credentials: the app's consumer secret.")
    username: str | None = Field(None, description="JWT bearer: the integration user's name.")
    private_key: SecretStr | None = Field(None, description="JWT bearer: the private key itself (PEM).")
    private_key_file: str | None = Field(None, description="JWT bearer: file of the private key (PEM).")
    api_url: str | None = Field(
        None, description="Base URL for every call instead of the org's own hosts (a proxy or a stand-in)."
    )
    api_version: str = Field("67.0", pattern=r"^\d+\.0$", description="Version of Salesforce's APIs.")
    timeout_seconds: float = Field(60, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while Salesforce is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")
    retry_wait_seconds: float = Field(
        1.0, ge=0, description="First wait after an unavailable answer or a locked row; doubles, with jitter."
    )
    limit_pause_seconds: float = Field(
        900, ge=0, description="After the day's calls are used up, no process calls the org for this long."
    )

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        by_key = self.private_key is not None or self.private_key_file is not None
        if self.consumer_secret is not None and by_key:
            msg = "give consumer_secret (client credentials) or a private key (JWT bearer), not both"
            raise ValueError(msg)
        if self.consumer_secret is None and not (by_key and self.username):
            msg = "give consumer_secret (client credentials), or username and private_key or private_key_file (JWT)"
            raise ValueError(msg)
        if self.consumer_secret is not None and self.domain in {"login", "test"}:
            msg = "client credentials need My Domain in domain (acme.my), not login or test"
            raise ValueError(msg)
        return self

    @property
    def account(self) -> str:
        """What pauses name it by."""
        return f"salesforce:{self.org_id}"

    @property
    def needed_key_file(self) -> str | None:
        """`private_key_file`, unless the key itself is set."""
        return self.private_key_file if self.private_key is None else None

    def client_options(self, key_of_file: str | None = None) -> dict[str, Any]:
        """What simple-salesforce logs in with.

        Args:
            key_of_file: what is in `needed_key_file`, where there is one.
        """
        options: dict[str, Any] = {
            "consumer_key": self.consumer_key.get_secret_value(), "domain": self.domain, "version": self.api_version,
        }  # fmt: skip
        if self.consumer_secret is not None:
            return {**options, "consumer_secret": self.consumer_secret.get_secret_value()}
        # On one line, as a variable of the environment has it.
        key = self.private_key.get_secret_value().replace("\\n", "\n") if self.private_key else key_of_file
        return {**options, "username": self.username, "privatekey": key}


def refused_log_in(code: object = None) -> CredentialsError:
    """The org says no; `code` is the one of its answer."""
    named = f" ({code})" if isinstance(code, str) and code.replace("_", "").isalnum() else ""
    return CredentialsError(
        f"{PLATFORM}: logging in was refused{named}; check domain, consumer_key and the app's policies"
    )


def log_in_without_answer(error: Exception) -> UnavailableError:
    """The org says nothing."""
    return UnavailableError(f"{PLATFORM}: logging in gave no answer ({type(error).__name__})")


def odd_log_in(error: Exception, login: SalesforceLogin) -> OneThreadError:
    """A key that is none, or a proxy's page, or an org that is down, where a token was expected."""
    if login.consumer_secret is None and not isinstance(error, KeyError | AttributeError):
        return SettingsError(f"{PLATFORM}: the private key cannot be used ({type(error).__name__})")
    return UnavailableError(f"{PLATFORM}: logging in gave an answer that is none ({type(error).__name__})")


def unreadable_key_file(error: Exception) -> SettingsError:
    """`private_key_file` cannot be read."""
    return SettingsError(f"private_key_file cannot be read ({type(error).__name__})")
