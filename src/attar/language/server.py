"""A server of one's own that answers prompts by OpenAI's API, as vLLM, SGLang, TGI and llama.cpp have it.

The server runs a teacher that attar never loads. A key is read from the environment alone, and is neither kept nor
told. Nothing is sent to another address than the one that is given: redirections are refused.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from attar.core.errors import InputError, shortened
from attar.core.settings import Range, Settings

KEY = "ATTAR_SERVER_KEY"
"""The environment's variable that holds a key, if the server wants one."""


@dataclass(frozen=True, kw_only=True)
class Server(Settings):
    """A server that answers the training prompts in the teacher's place, with --answers-by teacher."""

    itself: ClassVar[str] = "address"

    address: str | None = None
    """Address of a server with OpenAI's API. An example is http://localhost:8000/v1. Its answers take the place of the
    references, with --answers-by teacher. They are kept in the run's folder, so that none is asked for twice. A key is
    read from ATTAR_SERVER_KEY in the environment."""
    model: str | None = None
    """Name of the model on the server."""
    endpoint: Literal["auto", "completions", "chat"] = "auto"
    """What is asked: completions continues a prompt, chat answers it as a user's turn. auto takes chat for
    conversations."""
    parallel: Annotated[int, Range(1, 1024)] = 8
    """Number of prompts that the server works on at once."""
    timeout: Annotated[float, Range(0.01)] = 300.0
    """Seconds to wait for an answer."""
    retries: Annotated[int, Range(0, 100)] = 6
    """Number of further tries for a prompt, at growing distances, if the server is busy, fails or cannot be reached."""

    @property
    def answerer(self) -> dict[str, Any]:
        """Who answers, wherever it runs."""
        return {"model": self.model, "endpoint": self.endpoint}

    def body(self, row: Mapping[str, Any], tokens: int, temperature: float, nucleus: float, seed: int) -> "Request":
        """The request for an answer to a row's prompt, of at most so many tokens."""
        chat = "messages" in row if self.endpoint == "auto" else self.endpoint == "chat"
        asked = {"messages": _turns(row)} if chat else {"prompt": row["prompt"]}
        how = {"max_tokens": tokens, "temperature": temperature, "top_p": nucleus, "seed": seed}
        return Request("chat/completions" if chat else "completions", {"model": self.model, **asked, **how})


@dataclass(frozen=True)
class Request:
    """One request of the API."""

    path: str
    body: dict[str, Any]

    @property
    def data(self) -> bytes:
        """The body as it is sent."""
        return json.dumps(self.body, sort_keys=True).encode()


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    text: str
    whole: bool
    """Whether it ended by itself, and not at the largest number of tokens."""


def _turns(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns before the response."""
    if "messages" not in row:
        return [{"role": "user", "content": row["prompt"]}]
    return [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"][:-1]]


def _is_address(text: str) -> bool:
    """Whether a text is the address of a server that can be asked."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        host.encode("idna")
        known = parts.scheme in ("http", "https") and host != "" and parts.port != 0
    except ValueError:  # also of a port, which is read late
        return False
    return known and not parts.query and not parts.fragment and all("!" <= letter <= "~" for letter in text)


def check_used(server: Server, answers_by: str, form: str) -> None:
    """Check that a server is named in full, and that its answers are asked for.

    Raises:
        InputError: They are not, or the data have no prompts.
    """
    if server.address is None:
        if server != Server():
            raise InputError("settings of a server are given, but no server. Give --server http://localhost:8000/v1.")
        return
    if "@" in server.address:
        raise InputError(f"--server holds a name or a password. Put a key into {KEY} in the environment instead.")
    if not _is_address(server.address):
        told = shortened(server.address.partition("?")[0])  # what follows may be a key
        raise InputError(f"--server {told!r} is not an address such as http://localhost:8000/v1.")
    if not server.model:
        raise InputError("--server needs the name of a model on it. Give --server.model.")
    if answers_by != "teacher":
        raise InputError(
            f"--server answers the training prompts, but --answers-by is {answers_by}. Give --answers-by teacher, with "
            "--divergence none where no teacher is loaded (--baseline seqkd)."
        )
    if form == "text":
        raise InputError("a server answers prompts, but the data are plain text. Give rows with prompts.")
    if server.endpoint == "completions" and form == "chat":
        raise InputError("--server.endpoint completions continues a prompt, but the data are conversations. Give chat.")


def asked(server: Server, requests: Mapping[int, Request], keep: Callable[[int, Answer], None]) -> None:
    """Ask for answers, several at a time.

    Args:
        server: The server.
        requests: Requests by the numbers of their rows.
        keep: Called with each answer as soon as it is there, in any order, one at a time.

    Raises:
        InputError: The server refuses a request, or does not answer one in any try. Before that, what the server was
            still working on is waited for, and every answer that has come is kept.
    """
    import queue
    import threading

    from attar.language.asking import answer_to

    waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Answer | Exception] | None] = queue.SimpleQueue()
    stop, key = threading.Event(), os.environ.get(KEY, "").strip()
    for item in requests.items():
        waiting.put(item)

    def work() -> None:
        while not stop.is_set():
            try:
                row, request = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                done.put((row, answer_to(server, request, key, stop)))
            except Exception as error:  # told by the thread that waits
                done.put((row, error))
                stop.set()
        done.put(None)

    at_work, failures = min(server.parallel, len(requests)), []

    def take(one: tuple[int, Answer | Exception] | None) -> int:
        """Keep an answer, or remember a failure; return the number of threads that have ended by it."""
        if one is None:
            return 1
        row, found = one
        if isinstance(found, Exception):
            failures.append(found)
        else:
            keep(row, found)
        return 0

    for _ in range(at_work):
        threading.Thread(target=work, daemon=True).start()
    try:
        while at_work:
            at_work -= take(done.get())
    except KeyboardInterrupt:
        stop.set()
        while not done.empty():  # what is there already; nothing is waited for any more
            take(done.get())
        raise
    finally:
        stop.set()
    if failures:
        raise failures[0]  # that of another thread may be no more than that it was stopped
