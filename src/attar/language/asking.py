"""One request to a server: tries at growing distances, waits that the server asks for, and what its replies mean."""

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from attar.core.errors import InputError, reason_of, shortened
from attar.core.jsonfiles import parsed
from attar.language.server import KEY, Answer, Request, Server

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Replies after which another try may help."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second try, which double with each further one, and the most of them."""
LONGEST_ASKED = 600.0
"""Most seconds that a server may ask to wait."""
MOST_BYTES = 2**25
"""Most bytes of a reply."""


class _FailedError(Exception):
    """A try failed; another one may not."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks to wait."""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A reply that names another address is an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def answer_to(server: Server, request: Request, key: str, stop: threading.Event) -> Answer:
    """The answer to one request, tried as often as the settings say.

    Args:
        server: The server.
        request: The request.
        key: A key, or nothing.
        stop: Ends the waiting between two tries.

    Raises:
        InputError: The server refuses it, or no try succeeds.
    """
    reason, wait = "", FIRST_WAIT
    for attempt in range(server.retries + 1):
        if stop.is_set():
            break
        try:
            return _tried(server, request, key)
        except _FailedError as error:
            reason = str(error)
            pause = min(wait, LONGEST_WAIT) if error.wait is None else min(error.wait, LONGEST_ASKED)
            if attempt < server.retries:
                stop.wait(pause)
            wait *= 2
    tries = server.retries + 1
    raise InputError(
        f"the server at {server.address} gave no answer in {tries} {'tries' if tries > 1 else 'try'} ({reason}). Check "
        "that it runs. With the same --out no answer is asked for twice."
    )


def _tried(server: Server, request: Request, key: str) -> Answer:
    assert server.address is not None
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "attar"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    sent = urllib.request.Request(f"{server.address.rstrip('/')}/{request.path}", request.data, headers, method="POST")
    try:
        with _opener(server.address).open(sent, timeout=server.timeout) as reply:
            data = reply.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise _refused(error, server, key) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise InputError(f"the certificate of {server.address} is not valid ({reason_of(reason)}).") from None
        timed_out = isinstance(reason, TimeoutError)
        words = f"no reply in {server.timeout:g} s" if timed_out else _told(reason)
        raise _FailedError(words) from None
    except ValueError as error:  # a key that no header can hold
        words = f"{KEY} holds characters that no header may have" if key else _told(error)
        raise InputError(f"the server cannot be asked: {words}.") from None
    return _read(data)


def _opener(address: str) -> urllib.request.OpenerDirector:
    """What opens an address: through the environment's proxy, but for this machine."""
    here = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    proxies = [urllib.request.ProxyHandler({})] if here else []
    return urllib.request.build_opener(_NoRedirection(), *proxies)


def _refused(error: urllib.error.HTTPError, server: Server, key: str) -> Exception:
    """What a reply with an error's number means."""
    with error:
        try:
            said = _message(parsed(error.read(2**16).decode(errors="replace")))
        except (ValueError, OSError, http.client.HTTPException):
            said = ""
    said = said.replace(key, "…") if key else said
    told = f"HTTP {error.code}{f': {shortened(said, 200)}' if said else ''}"
    if error.code in AGAIN:
        return _FailedError(told, _seconds(error.headers.get("Retry-After")))
    advice = {
        401: f"Put its key into {KEY}.",
        403: f"Put its key into {KEY}.",
        404: "Check the address (…/v1) and the name of the model.",
    }
    hint = advice.get(error.code, "Give its own address." if error.code < 400 else "Check the model and the settings.")
    return InputError(f"the server at {server.address} refuses ({told.rstrip('.')}). {hint}")


def _message(reply: Any) -> str:
    """The message of an error, in either of the forms that servers have."""
    found = reply.get("error", reply) if isinstance(reply, dict) else ""
    found = found.get("message", "") if isinstance(found, dict) else found
    return " ".join(found.split()) if isinstance(found, str) else ""


def _seconds(asked: str | None) -> float | None:
    """The seconds that Retry-After names, as a number or as a date."""
    if asked is None:
        return None
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        from datetime import datetime

        date = parsedate_to_datetime(asked)
        return max(0.0, (date - datetime.now(date.tzinfo)).total_seconds())
    except (ValueError, TypeError):
        return None


def _read(data: bytes) -> Answer:
    """The answer in a reply.

    Raises:
        _FailedError: It has none.
    """
    try:
        if len(data) > MOST_BYTES:
            raise ValueError("a reply of more than 32 MB")
        choice = parsed(data)["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if text is None and isinstance(choice.get("finish_reason"), str):
            text = ""  # a model that thinks first, and was cut off before it answered
        if not isinstance(text, str):
            raise TypeError
        text.encode()
    except json.JSONDecodeError:
        raise _FailedError("its reply is not JSON") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise _FailedError("its reply holds no text of an answer") from None
    return Answer(text, choice.get("finish_reason") != "length")


def _told(error: Any) -> str:
    return getattr(error, "strerror", None) or reason_of(error)
