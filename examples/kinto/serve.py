"""Starts Kinto with the addresses and secrets of its environment, or migrates its database.

Kinto has variables of its own for each service, and the secrets stay in the environment: nothing is written into a
file or a command line.
"""

import os
import sys
from pathlib import Path

os.chdir(Path(__file__).parent)
database, cache = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
os.environ |= {
    "KINTO_STORAGE_URL": database,
    "KINTO_PERMISSION_URL": database,
    "KINTO_CACHE_URL": cache,
}
if sys.argv[1:] == ["migrate"]:
    os.execvp("kinto", ["kinto", "migrate", "--ini", "kinto.ini"])
os.execvp(
    "pserve", ["pserve", "kinto.ini", f"http_host={os.environ['HOST']}", f"http_port={os.environ['PORT']}"]
)
