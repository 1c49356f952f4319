"""Answers of a server: a small one is started here, which answers, is busy, fails, talks nonsense, or is slow."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import attar.language as language
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.language import answered, asking
from attar.language.answered import FILE, collected
from attar.language.distillation import DistillLanguage
from attar.language.server import KEY, Answer, Request, Server, check_used

SMALL = {
    "student": "gpt2:layers=1,width=16,heads=2",
    "epochs": 1,
    "batch": 16,
    "max_length": 96,
    "divergence": "none",
    "answers_by": "teacher",
    "sampling_temperature": 0.0,
}


def said(text, reason="stop"):
    return 200, {"choices": [{"text": text, "finish_reason": reason}]}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.seen)
            self.server.seen.append((self.path, body, dict(self.headers)))
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
        status, reply, *headers = self.server.reply(number, body)
        with self.server.lock:
            self.server.at_once -= 1
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        try:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # who asked is gone
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server whose `reply` the test sets: a function of the number of the request and its body."""
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.daemon_threads = True
    one.lock, one.seen, one.at_once, one.most = threading.Lock(), [], 0, 0
    one.reply = lambda number, body: said(f"answer to {body['prompt'].split()[-1]}")
    one.address = f"http://127.0.0.1:{one.server_port}/v1"
    thread = threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """No waits between tries."""
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)
    monkeypatch.delenv(KEY, raising=False)


def asked_for(server, count=6, home=None, engine=None, **settings):
    given = Server(address=server.address, model="big", **{"timeout": 5.0, **settings})
    requests = [given.body({"prompt": f"prompt {number}"}, 8, 0.0, 1.0, 7) for number in range(count)]
    return collected(given, requests, home, Runtime(engine))


def test_every_prompt_has_its_answer_and_several_are_asked_at_once(server, engine):
    def slowly(number, body):
        time.sleep(0.05)
        return said(body["prompt"][::-1], "length" if body["prompt"].endswith("3") else "stop")

    server.reply = slowly
    found = asked_for(server, 12, engine=engine, parallel=4)
    assert [one.text for one in found] == [f"prompt {number}"[::-1] for number in range(12)]
    assert [row for row, one in enumerate(found) if not one.whole] == [3]
    assert server.most == 4
    path, body, headers = server.seen[0]
    assert path == "/v1/completions"
    assert body | {"prompt": ""} == {
        "model": "big", "prompt": "", "max_tokens": 8, "temperature": 0.0, "top_p": 1.0, "seed": 7
    }  # fmt: skip
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    "first",
    [
        (429, {"error": {"message": "slow down"}}, ("Retry-After", "0")),
        (503, b"", ("Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT")),
        (429, b"", ("Retry-After", "soon")),
        (500, b"<html>oh</html>"),
        (200, b'{"choices": [{'),
        (200, {"choices": []}),
        (200, {"choices": [{"message": {"content": None}}]}),
        (200, [1, 2]),
        (200, b"\xff\xfe"),
        (200, {"choices": [{"text": "\ud800"}]}),
    ],
    ids=range(10),
)
def test_a_failure_is_tried_again(server, engine, first):
    server.reply = lambda number, body: first if number == 0 else said("yes")
    assert asked_for(server, 1, engine=engine) == [Answer("yes", True)]
    assert len(server.seen) == 2


def test_a_wait_that_the_server_asks_for_is_kept(server, engine):
    server.reply = lambda number, body: (429, b"", ("Retry-After", "0.4")) if number == 0 else said("yes")
    begun = time.monotonic()
    asked_for(server, 1, engine=engine)
    assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ((500, {"error": {"message": "out of memory"}}), r"no answer in 2 tries \(HTTP 500: out of memory\)"),
        ((429, b""), r"no answer in 2 tries \(HTTP 429\)"),
        ((200, b"hello"), r"no answer in 2 tries \(its reply is not JSON\)"),
        ((200, {}), r"no answer in 2 tries \(its reply holds no text of an answer\)"),
        ((401, {"error": {"message": "no key"}}), rf"refuses \(HTTP 401: no key\)\. Put its key into {KEY}"),
        ((404, {"message": "no model big"}), r"refuses \(HTTP 404: no model big\)\. Check the address"),
        ((400, b""), r"refuses \(HTTP 400\)"),
        ((302, b"", ("Location", "http://127.0.0.1:9/elsewhere")), r"refuses \(HTTP 302\)\. Give its own address"),
    ],
)
def test_a_server_that_gives_no_answer_is_told_on_one_line(server, engine, reply, sentence):
    server.reply = lambda number, body: reply
    with pytest.raises(InputError, match=sentence) as told:
        asked_for(server, 1, engine=engine, retries=1)
    assert "\n" not in str(told.value)


def test_no_reply_and_no_server_are_told(server, engine):
    server.reply = lambda number, body: (time.sleep(1), said("late"))[1]
    with pytest.raises(InputError, match=r"no answer in 1 try \(no reply in 0.1 s\)"):
        asked_for(server, 1, engine=engine, retries=0, timeout=0.1)
    server.address = "http://127.0.0.1:9/v1"
    with pytest.raises(InputError, match=r"no answer in 1 try \(Connection refused\)\. Check that it runs"):
        asked_for(server, 1, engine=engine, retries=0)


def test_a_key_goes_to_the_server_and_nowhere_else(server, engine, monkeypatch, tmp_path):
    monkeypatch.setenv(KEY, "secret-of-mine")
    home = tmp_path / "run" / FILE
    asked_for(server, 2, home, engine)
    assert {headers["Authorization"] for _, _, headers in server.seen} == {"Bearer secret-of-mine"}
    assert "secret" not in home.read_text(encoding="utf-8")
    server.reply = lambda number, body: (403, {"error": "the key secret-of-mine is wrong"})
    with pytest.raises(InputError, match="the key … is wrong") as told:
        asked_for(server, 1, engine=engine)
    assert "secret" not in str(told.value)
    monkeypatch.setenv(KEY, "two\nlines")
    with pytest.raises(InputError, match=f"{KEY} holds characters") as told:
        asked_for(server, 1, engine=engine)
    assert "lines" not in str(told.value)


def test_nothing_is_asked_twice(server, engine, tmp_path):
    """After a failure, with a last line that a kill has cut, and with one request that is another now."""
    home = tmp_path / "run" / FILE
    server.reply = lambda number, body: said("a") if number < 3 else (400, b"")
    with pytest.raises(InputError, match="refuses"):
        asked_for(server, 6, home, engine, parallel=1)
    lines = home.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    home.write_text("\n".join(lines)[:-7], encoding="utf-8")  # the third is cut off
    server.reply = lambda number, body: said("b")
    server.seen.clear()
    assert [one.text for one in asked_for(server, 6, home, engine)] == ["a", "a", "b", "b", "b", "b"]
    assert len(server.seen) == 4
    assert [one.text for one in asked_for(server, 6, home, engine)] == ["a", "a", "b", "b", "b", "b"]
    assert len(server.seen) == 4
    asked_for(server, 7, home, engine)
    assert len(server.seen) == 5


def test_answers_that_come_while_another_request_fails_are_kept(server, engine, tmp_path):
    """Prompt 0 is refused while three others are worked on, which answer later; nobody is asked for further ones."""
    home, busy = tmp_path / "run" / FILE, threading.Barrier(4)

    def answer(number, body):
        busy.wait(10)
        if body["prompt"].endswith(" 0"):
            return 400, {"error": {"message": "too long"}}
        time.sleep(0.3)
        return said(body["prompt"])

    server.reply = answer
    with pytest.raises(InputError, match=r"refuses \(HTTP 400: too long\)"):
        asked_for(server, 9, home, engine, parallel=4)
    lines = [json.loads(line) for line in home.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["text"] for line in lines) == ["prompt 1", "prompt 2", "prompt 3"]
    assert len(server.seen) == 4


def test_answers_that_are_there_when_a_run_is_interrupted_are_kept(server, engine, tmp_path, monkeypatch):
    home, real = tmp_path / "run" / FILE, answered._File.add

    def interrupted(file, key, answer):
        real(file, key, answer)
        if answer.text == "prompt 0":
            time.sleep(0.5)  # in which the others arrive
            raise KeyboardInterrupt

    monkeypatch.setattr(answered._File, "add", interrupted)
    server.reply = lambda number, body: said(body["prompt"])
    with pytest.raises(KeyboardInterrupt):
        asked_for(server, 4, home, engine, parallel=4)
    assert home.read_text(encoding="utf-8").count("\n") == 4


def test_equal_prompts_are_asked_once_and_have_one_answer(server, engine, tmp_path):
    given = Server(address=server.address, model="big", timeout=5.0)
    requests = [given.body({"prompt": f"prompt {number % 3}"}, 8, 1.0, 1.0, 7) for number in range(9)]
    server.reply = lambda number, body: said(f"{body['prompt']}, said {number}")
    home = tmp_path / "run" / FILE
    first = collected(given, requests, home, Runtime(engine))
    assert len(server.seen) == 3
    assert first[:3] == first[3:6] == first[6:] == collected(given, requests, home, Runtime(engine))[:3]
    assert len(server.seen) == 3


def test_an_answer_without_text_that_has_ended_is_empty_and_not_asked_for_again(server, engine):
    server.reply = lambda number, body: (200, {"choices": [{"message": {"content": None}, "finish_reason": "length"}]})
    assert asked_for(server, 1, engine=engine) == [Answer("", False)]
    assert len(server.seen) == 1


def distilled(source, server, tokenizer, engine, out=None, method=None, say=None, **settings):
    given = Server(**{"address": server.address, "model": "big", "timeout": 5.0, **settings})
    return language.distill(
        source, DistillLanguage.of(**{**SMALL, **(method or {})}), tokenizer=tokenizer, server=given, out=out,
        engine=engine, answers=0, say=say,
    )  # fmt: skip


def test_a_student_of_the_answers_is_that_of_references_with_the_same_text(server, source, tokenizer, engine, tmp_path):
    server.reply = lambda number, body: said(f"{body['prompt'][:9]}!")
    made = distilled(source, server, tokenizer, engine, tmp_path)
    rows = {part: list(getattr(source, part)) for part in ("train", "validation", "test")}
    rows["train"] = [{**row, "response": f"{row['prompt'][:9]}!"} for row in rows["train"]]
    settings = {**SMALL, "answers_by": "off-policy"}
    plain = language.distill(
        language.load(rows), DistillLanguage.of(**settings), tokenizer=tokenizer, engine=engine, answers=0
    )
    for name, value in plain.model.state_dict().items():
        assert value.equal(made.model.state_dict()[name])
    assert len(server.seen) == len(source.train)
    assert len((tmp_path / "run" / FILE).read_text(encoding="utf-8").splitlines()) == len(source.train)


def test_conversations_are_asked_as_such_and_cut_answers_do_not_end(server, tokenizer, engine):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    data = language.load([{"messages": turns}] * 8, validation=1, test=1)
    server.reply = lambda number, body: (
        200, {"choices": [{"message": {"content": "well"}, "finish_reason": "length"}]}
    )  # fmt: skip
    made = distilled(data, server, tokenizer, engine)
    assert {path for path, *_ in server.seen} == {"/v1/chat/completions"}
    assert server.seen[0][1]["messages"] == turns[:1]
    assert made.origin.parameters > 0


def test_a_smaller_teacher_compares_on_the_answers_of_the_server(server, source, teacher, tokenizer, engine):
    made = language.distill(
        source,
        DistillLanguage.of(**{**SMALL, "divergence": "forward"}),
        teacher=teacher,
        tokenizer=tokenizer,
        server=Server(address=server.address, model="big"),
        engine=engine,
        answers=0,
    )
    assert "teacher" in made.scores
    with pytest.raises(InputError, match="needs a teacher"):
        distilled(source, server, tokenizer, engine, method={"divergence": "forward"})


def test_the_command_asks_a_server(server, tmp_path, capsys):
    from attar.cli import main

    rows = [json.dumps({"prompt": f"count to {number}: ", "completion": "no"}) for number in range(20)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows), encoding="utf-8")
    server.reply = lambda number, body: said("one, two, three")
    words = ["distill", "language", "--baseline", "seqkd", "--data", str(tmp_path / "data.jsonl"), "--epochs", "1"]
    words += ["--student", "gpt2:layers=1,width=16,heads=2", "--max-length", "64", "--device", "cpu", "--quiet"]
    words += ["--answers", "0", "--server", server.address, "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(words)
    assert "Give --server.model" in capsys.readouterr().err
    main([*words, "--server.model", "big"])
    assert len(server.seen) == 16
    with pytest.raises(InputError, match="the address of a server"):
        language.distill("phrases", teacher=server.address)


def test_only_empty_answers_are_refused(server, source, tokenizer, engine):
    server.reply = lambda number, body: said(" ")
    with pytest.raises(InputError, match=r"all 40 answers of big are empty\. Check"):
        distilled(source, server, tokenizer, engine)
    server.reply = lambda number, body: said("", "length")
    with pytest.raises(InputError, match="are empty, 40 of them cut off before any text"):
        distilled(source, server, tokenizer, engine)
    told = []
    server.reply = lambda number, body: said("" if number % 4 else "yes", "length")
    distilled(source, server, tokenizer, engine, say=told.append)
    assert any("note: 30 of 40 answers of big are empty, 30 of them cut off" in line for line in told)


@pytest.mark.parametrize(
    ("settings", "answers_by", "form", "sentence"),
    [
        ({"model": "big"}, "teacher", "pair", "no server. Give --server"),
        ({"address": "localhost:8000"}, "teacher", "pair", "is not an address such as http"),
        ({"address": "http:///v1"}, "teacher", "pair", "is not an address"),
        ({"address": "file:///etc/passwd"}, "teacher", "pair", "is not an address"),
        *[
            ({"address": address}, "teacher", "pair", "is not an address such as http")
            for address in (
                "http://[::1/v1",
                "http://host:99999/v1",
                "http://host:port/v1",
                "http://host :80/v1",
                "http://host/v1\n",
                "http://.../v1",
                "http://höst/v1",
                "http://host/v1?key=word",
            )
        ],
        ({"address": "http://me:word@host/v1"}, "teacher", "pair", "holds a name or a password"),
        ({"address": "http://me:word@[host/v1"}, "teacher", "pair", "holds a name or a password"),
        ({"address": "http://host/v1"}, "teacher", "pair", "Give --server.model"),
        ({"address": "http://host/v1", "model": "a"}, "off-policy", "pair", "--answers-by is off-policy"),
        ({"address": "http://host/v1", "model": "a"}, "teacher", "text", "the data are plain text"),
        (
            {"address": "http://host/v1", "model": "a", "endpoint": "completions"},
            "teacher",
            "chat",
            "the data are conversations",
        ),
    ],
)
def test_servers_that_cannot_be_asked_are_refused(settings, answers_by, form, sentence):
    with pytest.raises(InputError, match=sentence) as told:
        check_used(Server(**settings), answers_by, form)
    assert "word" not in str(told.value).replace("password", "")
    assert "\n" not in str(told.value)


KILLED = """
import sys
import attar.language as language
from attar.core.runtime import Engine
from attar.language.server import Server

settings = {settings}
language.distill(
    "phrases", language.DistillLanguage.of(**settings), server=Server(address=sys.argv[1], model="big"),
    out=sys.argv[2], engine=Engine(device="cpu", quiet=True), answers=0,
)
"""


def test_a_run_that_is_killed_among_the_answers_asks_for_the_rest_alone(server, tmp_path):
    """Killed, and continued: as many requests as there are prompts, but for those on their way."""
    script = KILLED.replace("{settings}", repr({**SMALL, "max_length": 192}))
    words = [sys.executable, "-c", script, server.address, str(tmp_path / "run")]
    home, go_on = tmp_path / "run" / "run" / FILE, threading.Event()

    def until_told(number, body):
        if number >= 30:
            go_on.wait(20)
        return said("so be it")

    server.reply = until_told
    with subprocess.Popen(words, env=os.environ.copy()) as first:
        while not (home.is_file() and home.read_bytes().count(b"\n") >= 30):
            time.sleep(0.05)
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)
    go_on.set()
    before = len(server.seen)
    subprocess.run(words, check=True, env=os.environ.copy())
    prompts = {body["prompt"] for _, body, _ in server.seen}  # equal ones are asked once
    assert len(server.seen) - before == len(prompts) - 30
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_requests_of_other_settings_are_others():
    given = Server(address="http://host/v1", model="a")
    one = given.body({"prompt": "x"}, 8, 0.0, 1.0, 7)
    assert one == Request("completions", one.body)
    assert one.data != given.body({"prompt": "x"}, 8, 0.5, 1.0, 7).data
