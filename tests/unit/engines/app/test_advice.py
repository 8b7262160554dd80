from __future__ import annotations

import pytest

from asbuilt.engines.app.advice import render_advice


def advise(*evidence: str) -> str:
    return render_advice(evidence, address="127.20.2.1:10001", health="/health", name="shop.example")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("GET http://127.20.2.1:1/health: answered 'HTTP/1.0 404 Not Found'", "set app.health"),
        ("answered 'HTTP/1.1 401 Unauthorized'", "asks for a login"),
        ("answered 'HTTP/1.1 405 Method Not Allowed'", "takes no GET"),
        ("answered 'HTTP/1.1 400 Bad Request'", "call the app shop.example"),
        ("answered 'HTTP/1.1 500 Internal Server Error'", "fails at /health"),
        ("log: Invalid HTTP_HOST header: 'localhost'.", "call the app shop.example"),
        ("its main process exited with status 0; crash loop", "foreground"),
        ("its main process was killed by SIGKILL", "app.memory"),
        ("log: OSError: [Errno 98] Address already in use", "$PORT"),
        ("log: Error: listen EADDRINUSE: address already in use :::3000", "$PORT"),
        ("Connect call failed ('127.20.2.1', 10001)", "nothing listens there"),
        ("GET http://127.20.2.1:1/: no answer within 5 s", "does not answer"),
        ("log: PermissionError: [Errno 13] Permission denied: 'data.txt'", "$FILES_DIR"),
        ("log: Error: EACCES: permission denied, mkdir '/x/uploads'", "$FILES_DIR"),
        ("log: ModuleNotFoundError: No module named 'flask.json'", "flask.json is not installed"),
        ("log: Error: Cannot find module 'express'", "express is not installed"),
    ],
)
def test_advice_is_for_what_was_seen(seen: str, said: str) -> None:
    assert said in advise(seen)


def test_the_log_explains_an_answer_better_than_the_answer() -> None:
    got = advise("answered 'HTTP/1.0 500 Internal Server Error'", "log: sqlite3: readonly database")
    assert "never changes" in got


def test_nothing_is_said_about_what_nobody_saw() -> None:
    assert advise("its main process exited with status 3") == ""
    assert advise() == ""
