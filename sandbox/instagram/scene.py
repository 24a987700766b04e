"""A short performance for the demo: what tap and receiver must be told, three invented customers, what was heard."""

from __future__ import annotations

from sandbox.deliverer import Delivery
from sandbox.instagram.people import People
from sandbox.meta import handshake

_BEFORE_SECONDS = 1800
"""The scene happens half an hour ago: a message of the last minute is left to its webhook."""


class Scene(People):
    """The part of the stand-in that the demo drives."""

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in, which is served at `url`."""
        values = {
            "LOGIN": self.login,
            "API_URL": url,
            "ACCESS_TOKEN": self.access_token,
            "ACCOUNT_ID": self.account_id,
            "PAGE_ID": self.page_id,
            "APP_ID": str(self.app_id),
            "APP_SECRET": self.app_secret,
            "VERIFY_TOKEN": self.verify_token,
            "REQUEST_FOLDERS": f'["{self.request_folder}"]',
        }
        return {f"ONETHREAD_INSTAGRAM_{name}": value for name, value in values.items()}

    def connect(self, receiver_url: str) -> None:
        """Start pushing to the receiver at that address; raises `ConnectionError` when its handshake fails."""
        callback = f"{receiver_url}/webhooks/instagram"
        if not handshake(callback, self.verify_token):
            message = f"{callback} does not answer the challenge"
            raise ConnectionError(message)
        self.start_delivery(callback)

    def play(self) -> None:
        """Three customers: a chat with every trouble, a comment, a message request; one webhook is lost."""
        self.clock.advance(-_BEFORE_SECONDS)
        mia = self.add_person("Mia Rossi", "mia.rossi")
        question = self.text(mia, "Hi! Do you ship lamps to Norway?", delivery=Delivery(duplicate=1))
        self.attachment(mia, "image")
        typo = self.text(mia, "It is for my mothr")
        self.edit(mia, typo, "It is for my mother")
        regretted = self.text(mia, "My door code is ... never mind")
        self.unsend(mia, regretted)
        self.app_text(mia, "We do, two days by mail.")
        self.react(mia, question)

        jonas = self.add_person("Jonas Weber", "jonas.w")
        self.deliverer.hold()
        self.text(jonas, "First: is the walnut table solid wood?")
        self.text(jonas, "Second: and how heavy is it?")
        self.deliverer.release(reverse=True, together=False)
        self.story_mention(jonas)
        lost = "Did my last question arrive? The webhook of this one never does."
        self.text(jonas, lost, delivery=Delivery(drop=True))
        self.text(jonas, "STOP")

        noor = self.add_person("Noor Haddad", "noor.h", in_requests=True)
        comment = self.comment(noor, "How much is the blue one?")
        self.app_comment("We have sent you a message.", parent=comment)
        self.from_ad(noor, "I saw your ad, do you have gift cards?")
        self.clock.advance(_BEFORE_SECONDS)

    def flush(self, timeout: float = 10) -> None:
        """Wait until the receiver has accepted every push."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.stop_delivery()

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Channel, words (``None`` when there are none or they were taken back) and time of what customers wrote."""
        chat = [
            ("instagram", None if one.unsent else one.text, one.at) for one in self.messages.values() if not one.ours
        ]
        public = [("instagram", one.text, one.at) for one in self.comments.values() if one.igsid is not None]
        return sorted([*chat, *public], key=lambda one: one[2])
