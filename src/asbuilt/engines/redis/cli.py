"""`asbuilt connect redis` where no redis-cli is installed: a line client of a few lines.

The password comes from REDISCLI_AUTH, as for redis-cli, never from the command line.
"""

# ruff: noqa: T201 - a command line client prints
from __future__ import annotations

import argparse
import os
import shlex
import sys

from asbuilt.engines.redis.resp import Client, Reply, ReplyError


def render_reply(reply: Reply, indent: str = "") -> str:
    """A reply as redis-cli would show it to a person."""
    if reply is None:
        return "(nil)"
    if isinstance(reply, int):
        return f"(integer) {reply}"
    if isinstance(reply, str):
        return reply
    if not reply:
        return "(empty array)"
    lines = [f"{n}) {render_reply(one, indent + '   ')}" for n, one in enumerate(reply, 1)]
    return f"\n{indent}".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point: the command given, else one for each line of standard input. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="redis", add_help=False)
    parser.add_argument("-h", dest="host", default="127.0.0.1")
    parser.add_argument("-p", dest="port", type=int, default=6379)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    try:
        with Client(given.host, given.port, os.environ.get("REDISCLI_AUTH", ""), timeout=30.0) as client:
            return (
                _answer(client, given.words)
                if given.words
                else _converse(client, f"{given.host}:{given.port}> ")
            )
    except (OSError, ReplyError) as error:
        print(f"(error) {error}", file=sys.stderr)
        return 1


def _answer(client: Client, words: list[str]) -> int:
    try:
        print(render_reply(client.ask(*words)))
    except ReplyError as error:
        print(f"(error) {error}", file=sys.stderr)
        return 1
    return 0


def _converse(client: Client, prompt: str) -> int:
    """Line by line until `quit` or the end; an error does not end it."""
    person = sys.stdin.isatty()
    status = 0
    while True:
        if person:
            print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return status
        try:
            words = shlex.split(line)
        except ValueError as error:
            print(f"(error) {error}", file=sys.stderr)
            continue
        if words and words[0].lower() in {"quit", "exit"}:
            return status
        if words:
            status = _answer(client, words)


if __name__ == "__main__":
    sys.exit(main())
