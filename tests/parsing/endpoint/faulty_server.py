"""A small OpenAI-compatible server that goes wrong on purpose.

A caption that holds the name of a fault meets that fault; `weather` makes faults strike any request.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

ONCE = ("limit", "crash", "half", "cut", "hang")  # the second try is answered
ALWAYS = ("badjson", "shape", "page", "null", "refuse", "broken", "sleeper")


class FaultyServer(ThreadingHTTPServer):
    """Answers each caption with its words of four letters or more, as objects.

    Args:
        weather: a fault's share of all requests, by its name.
        key: the only one that is let in, or None.
        status: with which every request is answered, whatever it asks; None answers.
        always: status, body and headers of every answer, or None.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, weather: dict[str, float] | None = None, seed: int = 0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.weather, self.random = weather or {}, Random(seed)
        self.key: str | None = None
        self.takes_lists = True
        self.seconds = 0.0  # that every answer takes
        self.status: int | None = None
        self.always: tuple[int, bytes, dict[str, str]] | None = None
        self.asked: list[tuple[str, dict]] = []
        self.met: Counter[str] = Counter()
        self.now = self.most = 0  # captions in work, and the largest number of them
        self.lock = threading.Lock()
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, caption: str) -> str | None:
        with self.lock:
            for name in (*ONCE, *ALWAYS):
                if name in caption:
                    self.met[f"{name} {caption}"] += 1
                    if name in ALWAYS or self.met[f"{name} {caption}"] == 1:
                        return name
            for name, share in self.weather.items():
                if self.random.random() < share:
                    self.met[name] += 1
                    return name
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body.get("prompt")
        size = len(prompt) if isinstance(prompt, list) else 1
        with server.lock:
            server.asked.append((self.path, body))
            server.now += size
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.seconds)
            self._answer(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.now -= size

    def _answer(self, body: dict) -> None:
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            return self._send(401, {"error": {"message": "wrong key"}})
        if self.server.always is not None:
            return self._send(*self.server.always)
        if self.server.status is not None:
            return self._send(self.server.status, {"error": {"message": "closed\ntoday"}})
        chat = self.path.endswith("/chat/completions")
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        asked = [asked] if isinstance(asked, str) else asked
        if len(asked) > 1 and not self.server.takes_lists:
            return self._send(422, {"error": {"message": "prompt must be a string"}})
        captions = [
            each.rpartition("Caption: ")[2].partition(" ASSISTANT:")[0].strip() for each in asked
        ]
        good = _good(
            ["; ".join(dict.fromkeys(re.findall(r"[a-z]{4,}", caption))) for caption in captions],
            chat,
        )
        fault = next(filter(None, map(self.server.fault, captions)), None)
        if fault in ("hang", "sleeper"):
            self.server.closing.wait(60)
            self.close_connection = True
        elif fault == "limit":
            self._send(429, {"error": {"message": "too fast"}}, {"Retry-After": "0.05"})
        elif fault == "crash" or fault == "broken":
            self._send(500, {"error": {"message": "cuda out of memory"}})
        elif fault == "half":
            self._send(200, good, cut=True)
        elif fault == "cut":
            self.close_connection = True  # not even a status
        elif fault == "badjson":
            self._send(200, b'{"choices": [')
        elif fault == "shape":
            self._send(200, {"choices": []})
        elif fault == "page":
            self._send(200, b"<html>sign in</html>", {"Content-Type": "text/html"})
        elif fault == "null":
            self._send(200, _good([None] * len(captions), chat))
        elif fault == "refuse":
            self._send(400, {"error": {"message": "the prompt is too long"}})
        else:
            self._send(200, good)

    def _send(self, status: int, body, headers: dict | None = None, cut: bool = False) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


def _good(texts: list[str | None], chat: bool) -> dict:
    """Answers as vLLM lists them, in any order."""
    choices = [
        {"index": at, "finish_reason": "stop"}
        | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 11 * len(texts), "completion_tokens": 5 * len(texts)}
    return {"choices": choices[::-1], "usage": usage}
