"""Every exception of ours: one class per answer to "what happens next, and who must act".

::

    OneThreadError
    ├── SettingsError            stop before the first request     operator
    ├── CredentialsError         stop, keep state                  operator
    ├── RateLimitedError         wait, retry                       nobody
    ├── UnavailableError         retry, bounded; then stop         platform
    ├── RejectedError            park this one write, go on        data owner
    ├── PayloadError             park the raw payload, go on       developer
    │   ├── UnknownShapeError
    │   └── MissingFieldError
    ├── SignatureError           401, store nothing                operator
    ├── IdentityConflictError    keep apart, queue for review      reviewer
    └── OutcomeUnknownError      settle by evidence, never resend  nobody, then a person

Messages name the platform, the endpoint or field, our id and the platform's code, and what to try. They never hold
tokens, message text, phone numbers or whole bodies.
"""

from __future__ import annotations


class OneThreadError(Exception):
    """Root of all errors that onethread raises on purpose."""


class SettingsError(OneThreadError):
    """A setting is missing, wrong or contradicts another; nothing has been requested yet."""


class CredentialsError(OneThreadError):
    """The platform refused our credentials or a permission is missing; state is kept, an operator must act."""


class RateLimitedError(OneThreadError):
    """The platform told us to slow down.

    Attributes:
        retry_after_seconds: how long it asked us to wait; ``None`` when it did not say.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(OneThreadError):
    """A timeout, a broken connection or a 5xx answer; worth another try, bounded in tries and time."""


class RejectedError(OneThreadError):
    """The other side refused this one write; it is parked with the reason and the rest goes on.

    Attributes:
        code: the platform's own error code as text, e.g. ``"131047"``; ``None`` when it gave none.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class PayloadError(OneThreadError):
    """We did not understand what the platform sent; the raw payload is parked and can be replayed after a fix."""


class UnknownShapeError(PayloadError):
    """The payload is of a kind that no mapping knows."""


class MissingFieldError(PayloadError):
    """A field that the mapping needs is absent or has the wrong type."""


class SignatureError(OneThreadError):
    """A webhook is not authentic: answer 401, store nothing, log no body."""


class IdentityConflictError(OneThreadError):
    """Evidence contradicts itself; the persons are kept apart and a reviewer decides."""


class OutcomeUnknownError(OneThreadError):
    """A call may or may not have taken effect (timeout after the request was written, reset, unclear 5xx).

    It is settled by evidence (echo, status, read-back), never by sending again.
    """
