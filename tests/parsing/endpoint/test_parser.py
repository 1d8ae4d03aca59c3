"""Asking a server: what it is asked, what it may get wrong, and what that costs."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from common.errors import UserError
from parsing.endpoint import client, parser
from parsing.endpoint.parser import EndpointConfig
from parsing.endpoint.server import Server
from parsing.llm.prompt import PromptTokens, load_prompt
from parsing.tags import EMPTY, FAILED, OK, TOO_LONG
from tests.parsing.endpoint.faulty_server import FaultyServer
from tests.parsing.llm.test_prompt import make_tokenizer

GOOD = [f"green house number {n}" for n in range(20)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Pauses of milliseconds in place of seconds."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def build(server):
    built = []

    def make(**options):
        prompt = options.pop("prompt", "student")
        more = {name: options.pop(name) for name in ("constraint",) if name in options}
        where = Server(server.url, "small", **{"batch": 16} | options)
        built.append(EndpointConfig(where, prompt, **more).pinned().build())
        return built[-1]

    yield make
    for each in built:
        each.close()


def test_a_plain_prompt_is_completed_and_its_answers_become_tags(server, build):
    results = build().parse(["a green house", "!!", "two dogs " * 400])
    assert [r.status for r in results] == [OK, EMPTY, TOO_LONG]
    assert results[0].objects == ["green", "house"] or results[0].objects == ["house"]
    assert (results[0].prompt_tokens, results[0].output_tokens) == (11, 5)
    path, body = server.asked[-1]
    assert path == "/v1/completions"
    assert body["prompt"] == "Caption: a green house\n"
    assert (body["model"], body["temperature"], body["stop"]) == ("small", 0.0, ["\n"])


def test_a_prompt_without_a_conversation_is_a_chat(server, build):
    build(prompt="default").parse(["a green house"])
    path, body = server.asked[-1]
    assert path == "/v1/chat/completions"
    shown = load_prompt("default")
    messages = body["messages"]
    assert len(messages) == 2 * len(shown.examples) + 1
    assert messages[0]["content"].startswith(shown.rules)
    assert [m["role"] for m in messages[:3]] == ["user", "assistant", "user"]
    assert messages[1]["content"] == shown.examples[0].answer.strip()
    assert messages[-1] == {"role": "user", "content": "Caption: a green house"}


@pytest.mark.parametrize("name", ["student", "default"])
@pytest.mark.parametrize("conversation", ["plain", "vicuna"])
def test_a_server_completes_the_text_that_an_engine_is_given(server, build, name, conversation):
    prompt = replace(load_prompt(name), conversation=conversation)
    build(prompt=prompt).parse(["a dog on <b>grass</b>"])
    tokens = PromptTokens(prompt, make_tokenizer())
    assert server.asked[-1][1]["prompt"] == tokens.text("a dog on <b>grass</b>")


def test_the_constraint_goes_to_servers_that_know_it(server, build):
    build(constraint="words").parse(["a dog"])
    assert "dog" in server.asked[-1][1]["structured_outputs"]["regex"]
    build().parse(["a dog"])
    assert "structured_outputs" not in server.asked[-1][1]


def test_prompts_share_a_request_and_each_gets_its_own_answer(server, build):
    asking = build(batch=64)
    captions = [f"a green {word} house" for word in ("barn", "boat", "bird", "bear", "bell") * 4]
    results = asking.parse(captions)
    assert [r.objects[-1] for r in results] == ["house"] * 20
    words = [caption.split()[2] for caption in captions]
    assert [word in r.raw for word, r in zip(words, results, strict=True)] == [True] * 20
    sizes = [len(b["prompt"]) for _, b in server.asked if isinstance(b["prompt"], list)]
    assert sorted(sizes) == [4, 8, 8]
    assert [(r.prompt_tokens, r.output_tokens) for r in results] == [(11, 5)] * 20
    assert asking.tally() == (20, 100)


def test_a_caption_that_spoils_a_shared_request_fails_alone(server, build):
    captions = [*GOOD[:9], "a refuse house", *GOOD[9:]]
    results = build(batch=64).parse(captions)
    assert [n for n, r in enumerate(results) if r.status == FAILED] == [9]
    assert {r.status for r in results} == {OK, FAILED}


def test_a_server_that_takes_no_lists_is_asked_one_by_one_from_then_on(server, build):
    server.takes_lists = False
    asking = build(batch=32)
    assert {r.status for r in asking.parse(GOOD)} == {OK}
    before = len(server.asked)
    assert {r.status for r in asking.parse(GOOD)} == {OK}
    assert len(server.asked) == before + len(GOOD)


def test_a_constraint_is_of_one_caption_and_its_request_too(server, build):
    assert {r.status for r in build(batch=64, constraint="words").parse(GOOD)} == {OK}
    assert all(isinstance(body["prompt"], str) for _, body in server.asked)


@pytest.mark.parametrize("fault", ["limit", "crash", "half", "cut", "hang"])
def test_what_goes_wrong_once_is_asked_again_and_costs_no_row(server, build, fault):
    captions = [*GOOD, f"a {fault} house"]
    asking = build(timeout=2.0 if fault == "hang" else 60.0)
    assert {r.status for r in asking.parse(captions)} == {OK}
    assert server.met[f"{fault} a {fault} house"] == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("badjson", "the endpoint's answer is not JSON"),
        ("shape", "the endpoint's answer is malformed (ValueError: 0 answers instead of 1)"),
        ("page", "the endpoint's answer is no JSON object but a web page"),
        ("null", "malformed (TypeError: it holds no text)"),
        ("refuse", "the endpoint said 400: the prompt is too long"),
    ],
)
def test_a_malformed_answer_fails_its_row_and_no_other(build, fault, error):
    results = build().parse([*GOOD, f"a {fault} house", "a house"])
    assert [r.status for r in results] == [*[OK] * 20, FAILED, OK]
    assert error in results[20].error
    assert "\n" not in results[20].error


@contextlib.contextmanager
def busy(asking) -> Iterator[None]:
    """Asks other captions in another thread for as long as the block lasts."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            asking.parse(["another house"])

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("broken", "said 500: cuda out of memory, 10 times"),
        ("sleeper", "took too long to answer, 10"),
    ],
)
def test_a_caption_that_fails_for_ever_fails_alone_while_others_are_answered(build, fault, error):
    asking = build(timeout=0.5 if fault == "sleeper" else 60.0)
    with busy(asking):
        result = asking.parse([f"a {fault} house"])[0]
    assert result.status == FAILED
    assert error in result.error


def test_a_limit_on_the_rate_gives_no_caption_up_while_others_are_answered(server, build):
    asking = build()
    server.weather = {"limit": 0.9}
    assert {r.status for r in asking.parse(GOOD)} == {OK}
    assert server.met["limit"] > 30


def test_a_server_that_comes_back_in_time_costs_no_row(server, build):
    asking = build()
    server.status = 503
    threading.Timer(1.0, lambda: setattr(server, "status", None)).start()
    assert {r.status for r in asking.parse(GOOD)} == {OK}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_answers_nobody_ends_the_run_and_fails_no_row(server, build, status):
    asking = build(patience=0.3)
    server.status = status
    with pytest.raises(
        UserError, match=rf"has answered nothing for \d+ s: it said {status}: closed"
    ) as e:
        asking.parse(GOOD)
    assert "\n" not in str(e.value)


def test_a_server_that_answers_nothing_but_nonsense_ends_the_run(build, monkeypatch):
    monkeypatch.setattr(client, "BAD_IN_A_ROW", 20)
    mixed = ["a badjson house", *["a badjson barn"] * 8, "a house"] * 4
    with pytest.raises(UserError, match=r"the last 21 answers of .* held no text"):
        build(batch=2).parse(mixed + ["a badjson house"] * 40)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_no_longer_lets_in_ends_the_run(server, build, status):
    asking = build()
    server.status = status
    with pytest.raises(UserError, match=rf"the endpoint .* said {status}: closed today"):
        asking.parse(GOOD)


@pytest.mark.parametrize("batch", [3, 36])
def test_no_more_captions_than_the_batch_are_in_work_whoever_asks(server, build, batch):
    asking = build(batch=batch)
    server.seconds = 0.3
    threads = [threading.Thread(target=asking.parse, args=(GOOD[:8],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batch / 3 < server.most <= batch
    assert asking.tally() == (24, 120)


def test_a_wrong_start_is_told_before_a_row_is_lost(server, build, monkeypatch):
    server.key = "right"
    for key in ("wrong", ""):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(UserError, match="said 401: wrong key"):
            build()
    monkeypatch.setenv("OPENAI_API_KEY", "right")
    assert build().parse(["a house"])[0].status == OK
    server.key, server.status = None, 400
    with pytest.raises(UserError, match=r"answers no caption: the endpoint said 400: closed today"):
        build()


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"<html>\n<p>Nothing here</p></html>", "text/html", "with no JSON object but a web page"),
        (b"<!DOCTYPE html><p>x", "text/html", "with no JSON object but a web page"),
        (b"go\naway", "text/plain", ": go away"),
        (b"", "text/plain", "with no JSON object but nothing"),
        (b'{"detail": "Not Found"}', "application/json", ": Not Found"),
        (b'{"error": "no such\\nmodel"}', "application/json", ": no such model"),
        (b'{"message": "no model m"}', "application/json", ": no model m"),
        (b'{"error": {"message": "bad key sk-mine-1"}}', "application/json", ": bad key …"),
    ],
)
@pytest.mark.parametrize(
    ("status", "hint"), [(401, "OPENAI_API_KEY holds the key"), (404, "look at the path")]
)
def test_whatever_a_server_says_of_itself_becomes_one_sentence_with_what_to_do(
    server, build, monkeypatch, body, kind, said, status, hint
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine-1")
    server.always = (status, body, {"Content-Type": kind})
    with pytest.raises(UserError) as told:
        build()
    assert f"{server.url}/v1 said {status}{' ' * (said[0] != ':')}{said}: " in str(told.value)
    assert hint in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[1]", b'"a"', b"3", b"null", b""])
def test_an_answer_that_is_no_object_is_told_before_a_row_is_lost(server, build, body):
    server.always = (200, body, {})
    with pytest.raises(UserError, match=r"answers no caption: the endpoint's answer is n"):
        build()


def test_a_port_with_nobody_there_is_told_in_seconds(monkeypatch):
    monkeypatch.setattr(parser, "START_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(UserError, match=r"it cannot be reached \(.+\)$"):
        EndpointConfig(Server(url, "m"), "student").build()
    assert time.monotonic() - began < 60


def test_the_prompt_travels_and_the_key_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (tmp_path / "own.yaml").write_text("rules: Look.\n")
    config = EndpointConfig(Server("http://h:1/v1", "m"), str(tmp_path / "own.yaml"))
    fingerprint, config = config.fingerprint(), config.pinned()
    os.unlink(tmp_path / "own.yaml")
    arrived = pickle.loads(pickle.dumps(config))
    assert arrived.fingerprint() == fingerprint
    assert arrived.load_prompt().rules == "Look."
    assert b"secret" not in pickle.dumps((config, config.about(), fingerprint))


def test_another_model_or_prompt_makes_another_run_and_another_address_does_not():
    config = EndpointConfig(Server("http://h:1", "m"))
    elsewhere = Server("https://other/v1", "m", batch=3, timeout=9)
    assert replace(config, server=elsewhere).fingerprint() == config.fingerprint()
    assert replace(config, server=Server("http://h:1", "n")).fingerprint() != config.fingerprint()
    assert replace(config, prompt="student").fingerprint() != config.fingerprint()


def test_a_served_student_is_asked_as_it_was_trained():
    config = EndpointConfig(Server("http://h:1", "tagalign-135m"))
    assert config.load_prompt() == load_prompt("student")
    assert config.resources().most == 1


def test_requests_that_are_called_off_give_their_places_back(server, build):
    asking = build(batch=39)
    server.seconds = 0.1
    for _ in range(3):
        server.status = 404
        with pytest.raises(UserError, match="said 404"):
            asking.parse(GOOD * 4)
        server.status = None
        assert {r.status for r in asking.parse(GOOD)} == {OK}
