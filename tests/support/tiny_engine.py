"""A tiny engine: answers each connection with its pid, and misbehaves on request.

engine.py HOST PORT [WORD...]   words: reuseport, wait=FILE, children, deaf, slow=SECONDS, exit=STATUS,
stubborn, talk, pidfile=FILE
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


def spread_children() -> None:
    subprocess.Popen(SLEEPER)
    subprocess.Popen(SLEEPER, start_new_session=True)
    # as PostgreSQL's: own session, no environment, parent gone, only the folder left
    if os.fork() == 0:
        subprocess.Popen(SLEEPER, env={}, start_new_session=True)
        os._exit(0)
    os.wait()
    print("children are there", flush=True)


def main(host: str, port: int, words: list[str]) -> None:
    options = dict(word.partition("=")[::2] for word in words)
    if "stubborn" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "pidfile" in options:
        Path(options["pidfile"]).write_text(f"{os.getpid()}\nmore\n")
    if "exit" in options:
        print("going away at once", flush=True)
        sys.exit(int(options["exit"]))
    if "children" in options:
        spread_children()
    while "wait" in options and not Path(options["wait"]).exists():
        time.sleep(0.01)
    time.sleep(float(options.get("slow", "0")))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "reuseport" in options:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(64)
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        if "deaf" in options and Path(options["deaf"]).exists():
            time.sleep(600)
        if "talk" in options:
            print("x" * 50_000, flush=True)
        connection.sendall(f"pid {os.getpid()}\n".encode())
        connection.close()


main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
