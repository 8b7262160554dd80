from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asbuilt.spec.infer import infer
from asbuilt.spec.load import load
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/healthz')\ndef health(): ...\n"
DJANGO = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
CASES: list[tuple[str, dict[str, str], dict[str, object]]] = [
    (
        "procfile",
        {
            "Procfile": "web: gunicorn shop:app --bind 0.0.0.0:$PORT\nrelease: flask db upgrade\n",
            "requirements.txt": "",
        },
        {
            "command": "gunicorn shop:app --bind 0.0.0.0:$PORT",
            "migrate": "flask db upgrade",
            "build": "pip",
            "health": "/",
        },
    ),
    (
        "procfile with a shell",
        {"Procfile": "web: cd web && exec node server.js\n"},
        {"command": "sh -c 'cd web && exec node server.js'", "build": "none"},
    ),
    (
        "fastapi",
        {"requirements.txt": "fastapi\nuvicorn[standard]==1\n", "main.py": FASTAPI},
        {"command": "uvicorn main:app --host $HOST --port $PORT", "health": "/healthz"},
    ),
    (
        "package below src, granian, alembic",
        {
            "pyproject.toml": "[project]\nname='My.Shop'\ndependencies=['granian>=1']\n",
            "src/shop/app.py": FASTAPI,
            "alembic.ini": "",
        },
        {
            "command": "granian --interface asgi shop.app:app --host $HOST --port $PORT",
            "migrate": "alembic upgrade head",
        },
    ),
    (
        "flask",
        {"requirements.txt": "Flask\n", "app.py": "app = Flask(__name__)\n@app.route('/ping')\n"},
        {"command": "gunicorn app:app --bind $HOST:$PORT", "health": "/ping"},
    ),
    (
        "django",
        {"requirements.txt": "django\n", "manage.py": DJANGO},
        {
            "command": "gunicorn shop.wsgi:application --bind $HOST:$PORT",
            "migrate": "python manage.py migrate --noinput",
        },
    ),
    (
        "pyramid",
        {"requirements.txt": "kinto[postgresql]\nwaitress\n", "kinto.ini": ""},
        {"command": "pserve kinto.ini http_port=$PORT", "build": "pip"},
    ),
    (
        "node",
        {
            "package.json": '{"scripts": {"start": "node a/b.js"}, "engines": {"node": "^22.1"}}',
            "a/b.js": "app.get('/health', ok)",
        },
        {"command": "node a/b.js", "build": "npm", "node": "22", "health": "/health"},
    ),
    (
        "a range of Node.js versions is no choice",
        {"package.json": '{"main": "index.js", "engines": {"node": ">=18"}}', "index.js": ""},
        {"node": None},
    ),
    (
        "django with nothing but its admin",
        {
            "requirements.txt": "django\ngunicorn\n",
            "manage.py": DJANGO,
            "shop/urls.py": '"""Use path(\'\', home)"""\nurlpatterns = [path(\'a/\', admin.site.urls)]\n',
        },
        {"health": "/admin/login/"},
    ),
    (
        "django with a page",
        {
            "requirements.txt": "django\ngunicorn\n",
            "manage.py": DJANGO,
            "shop/urls.py": "urlpatterns = [path('admin/', admin.site.urls), path('', home)]\n",
        },
        {"health": "/"},
    ),
    (
        "node with tools",
        {"package.json": '{"scripts": {"start": "next start"}}'},
        {"command": "npm start", "node": None},
    ),
    (
        "node main",
        {"package.json": '{"main": "lib/a b.js"}', "lib/a b.js": ""},
        {"command": "node 'lib/a b.js'"},
    ),
    (
        "dockerfile",
        {"Dockerfile": 'EXPOSE 8000\nCMD ["serve", "-p", "8000"]\n'},
        {"command": "serve -p $PORT"},
    ),
]


@pytest.mark.parametrize(("files", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_inferred_loads_and_fits(
    tmp_path: Path, files: dict[str, str], expected: dict[str, object]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    inferred = infer(tmp_path)
    (tmp_path / "asbuilt.yaml").write_text(inferred.text)
    app = load(tmp_path / "asbuilt.yaml").spec.environments["production"].app
    assert {key: getattr(app, key) for key in expected} == expected
    assert inferred.assumptions


def test_nothing_recognised_says_what_helps(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("[" * 100_000)
    (tmp_path / "pyproject.toml").write_text("= broken")
    with pytest.raises(UsageError) as caught:
        infer(tmp_path)
    assert caught.value.code == "INFER-001"
    assert "Procfile" in caught.value.hint


@pytest.mark.parametrize(
    "value", ["a\nname: x", "a: b", "$(id)", "node x; rm -rf /", "\u2028", "'", '"', "node $NOPE"]
)
def test_hostile_files_make_one_harmless_value(tmp_path: Path, value: str) -> None:
    import json  # noqa: PLC0415 - for this test alone

    (tmp_path / "package.json").write_text(json.dumps({"name": value, "scripts": {"start": value}}))
    inferred = infer(tmp_path)
    (tmp_path / "asbuilt.yaml").write_text(inferred.text)
    app = load(tmp_path / "asbuilt.yaml").spec.environments["production"].app
    assert app.command == "npm start"


def test_the_wanted_python_is_taken_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"requirements.txt": "", "Procfile": "web: python x.py", "r": ""}.items():
        (tmp_path / name).write_text(text)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3.99").write_text("#!/bin/sh\n")
    (tools / "python3.99").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    (tmp_path / ".python-version").write_text("3.99.1\n")
    assert "python: python3.99" in infer(tmp_path).text
    (tmp_path / ".python-version").write_text("3.98\n")
    inferred = infer(tmp_path)
    assert "python: " not in inferred.text
    assert any("3.98, which is not installed" in one for one in inferred.assumptions)
    (tmp_path / ".python-version").write_text("pypy3.10\n")
    assert "python: " not in infer(tmp_path).text


def test_a_server_that_is_not_required_is_said(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\n")
    (tmp_path / "app.py").write_text("app = Flask(__name__)\n")
    assert any("gunicorn is the server" in one for one in infer(tmp_path).assumptions)
    (tmp_path / "requirements.txt").write_text("flask\ngunicorn\n")
    assert not any("is the server" in one for one in infer(tmp_path).assumptions)
