"""wechatpy as the receiver and as the sender of callbacks: signatures, encryption, messages.

In: ``{"work": bool, "token", "aes_key", "id", "posts": [{"query", "body"}], "handshakes": [query], "compose": [xml]}``,
without ``aes_key`` in plain mode. Out: for each post ``good``, ``tampered``, ``other_receiver`` and what its models
made of it; for each handshake what it would answer; for each text a body with its query, signed by wechatpy.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import xmltodict
from wechatpy import parse_message
from wechatpy.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidSignatureException
from wechatpy.utils import check_signature
from wechatpy.work import parse_message as parse_work_message
from wechatpy.work.crypto import WeChatCrypto as WorkCrypto
from wechatpy.work.exceptions import InvalidCorpIdException


def opened(crypto: Any, post: dict[str, Any]) -> str | None:
    """What is in a post, or nothing when its signature or its receiver is wrong."""
    query = post["query"]
    try:
        return str(crypto.decrypt_message(post["body"], query["msg_signature"], query["timestamp"], query["nonce"]))
    except (InvalidSignatureException, InvalidCorpIdException, ValueError, IndexError):
        return None
    except Exception as error:
        if type(error).__name__ == "InvalidAppIdException":
            return None
        raise


def plain(token: str, post: dict[str, Any]) -> str | None:
    """The same in plain mode."""
    query = post["query"]
    try:
        check_signature(token, query["signature"], query["timestamp"], query["nonce"])
    except InvalidSignatureException:
        return None
    return str(post["body"])


def modelled(parse: Any, xml: str) -> dict[str, Any]:
    """What the model of wechatpy says of a message."""
    message = parse(xml)
    said = {"model": type(message).__name__, "id": str(message.id), "from": message.source, "to": message.target}
    said |= {"at": message.time, "type": message.type}
    for name in ("event", "content", "media_id", "image", "format", "recognition", "thumb_media_id", "location",
                 "scale", "label", "title", "description", "url", "key", "scene_id", "ticket", "status"):  # fmt: skip
        found = getattr(message, name, None)
        if isinstance(found, str | tuple | list):
            said[name] = found
    return {**said, "elements": xmltodict.parse(xml)["xml"]}


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    parse = parse_work_message if work["work"] else parse_message
    kind = WorkCrypto if work["work"] else WeChatCrypto
    crypto: Any = kind(work["token"], work["aes_key"], work["id"]) if work["aes_key"] else None
    other: Any = kind(work["token"], work["aes_key"], "wx0000000000000000") if work["aes_key"] else None
    verdicts = []
    for post in work["posts"]:
        tampered = {**post, "body": post["body"].replace("<Encrypt><![CDATA[", "<Encrypt><![CDATA[A")}
        again = {**post, "query": {**post["query"], "nonce": "1"}}
        if crypto is None:
            found, spoilt, elsewhere = plain(work["token"], post), plain(work["token"], again), None
        else:
            found, spoilt, elsewhere = opened(crypto, post), opened(crypto, tampered), opened(other, post)
        verdicts.append({
            "good": found is not None, "tampered": spoilt is not None, "other_receiver": elsewhere is not None,
            "message": modelled(parse, found) if found else None,
        })  # fmt: skip
    answers = []
    for query in work["handshakes"]:
        if work["work"]:
            answers.append(
                crypto.check_signature(query["msg_signature"], query["timestamp"], query["nonce"], query["echostr"])
            )
        else:
            check_signature(work["token"], query["signature"], query["timestamp"], query["nonce"])
            answers.append(query["echostr"])
    composed = []
    for xml in work["compose"]:
        body = crypto.encrypt_message(xml, "1320562132", str(int(time.time())))
        told = xmltodict.parse(body)["xml"]
        query = {"msg_signature": told["MsgSignature"], "timestamp": told["TimeStamp"], "nonce": told["Nonce"]}
        composed.append({"body": body, "query": query})
    json.dump({"posts": verdicts, "handshakes": answers, "composed": composed}, sys.stdout)


if __name__ == "__main__":
    main()
