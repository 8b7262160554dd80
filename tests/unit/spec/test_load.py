from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from asbuilt.spec.names import read_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.spec.load import Loaded

    Load = Callable[[str], Loaded]

HEAD = "name: shop\napp: {command: serve --port $PORT}\n"


def test_an_empty_production_is_the_documents(load_text: Load) -> None:
    loaded = load_text(HEAD + "environments: {production: {}, staging: , development: {}}\n")
    production = loaded.spec.environments["production"]
    assert str(production.app.instances) == "3..20"
    assert production.database is not None
    assert production.cache is not None
    assert production.load_balancer is not None
    assert (production.database.replicas, production.cache.replicas) == (2, 2)
    assert str(production.database.storage) == "500GB..2TB"
    assert production.load_balancer.connections == 10000
    assert loaded.spec.environments["development"].load_balancer is None
    assert loaded.spec.environments["development"].app.reload
    assert production.database.backup is not None
    assert not [note for note in loaded.warnings if "backup" in note]


def test_own_beats_shared_beats_preset(load_text: Load) -> None:
    spec = load_text(
        HEAD
        + "database: {replicas: 1, storage: 1GB}\n"
        + "environments: {production: {database: {storage: 2GB}}, staging: {}}\n"
    ).spec
    production, staging = spec.environments["production"].database, spec.environments["staging"].database
    assert production is not None
    assert staging is not None
    assert (production.replicas, str(production.storage)) == (1, "2GB")
    assert production.backup is not None
    assert (staging.replicas, str(staging.storage), staging.backup) == (1, "1GB", None)


@pytest.mark.parametrize("word", ["none", "null", "~", "false", "no"])
def test_a_component_can_be_left_out_and_put_back(load_text: Load, word: str) -> None:
    text = f"database: {word}\nenvironments: {{production: {{database: {{}}}}, staging: {{}}}}\n"
    spec = load_text(HEAD + text).spec
    database = spec.environments["production"].database
    assert database is not None
    assert database.replicas == 2
    assert spec.environments["staging"].database is None


def test_only_its_own_block_gives_development_a_load_balancer(load_text: Load) -> None:
    shared = "load_balancer: {domains: [shop.example]}\n"
    spec = load_text(HEAD + shared + "environments: {development: {}, staging: {}}\n").spec
    assert spec.environments["development"].load_balancer is None
    spec = load_text(HEAD + shared + "environments: {development: {load_balancer: {}}}\n").spec
    balancer = spec.environments["development"].load_balancer
    assert balancer is not None
    assert balancer.domains == ["shop.example"]
    assert balancer.connections == 10000


def test_a_shared_block_without_effect_is_noted(load_text: Load) -> None:
    loaded = load_text(HEAD + "load_balancer: {}\nenvironments: {development: {}}\n")
    assert any("no environment takes it" in note for note in loaded.warnings)


def test_an_environment_of_another_name(load_text: Load) -> None:
    spec = load_text(HEAD + "environments: {eu-1: {kind: production}}\n").spec
    assert spec.environments["eu-1"].kind == "production"


def test_values_are_taken_as_written(load_text: Load) -> None:
    text = (
        "name: s\napp:\n command: x\n env: {A: 1.30, B: no, C: 12:30:00, D: 010, E: 2026-1-2, F: '', G: on}\n"
    )
    env = load_text(text + "environments: {staging: {}}\n").spec.environments["staging"].app.env
    assert env == {"A": "1.30", "B": "no", "C": "12:30:00", "D": "010", "E": "2026-1-2", "F": "", "G": "on"}


def test_an_own_secret_replaces_a_shared_variable_and_another_way(load_text: Load) -> None:
    text = "name: shop\napp: {command: serve, env: {KEY: x}, secrets: {S: {file: f}}}\n"
    own = "environments: {staging: {app: {secrets: {KEY: {env: KEY}, S: {env: S}}}}, production: {}}\n"
    environments = load_text(text + own).spec.environments
    assert environments["staging"].app.env == {}
    assert environments["staging"].app.secrets["S"].model_dump() == {"env": "S"}
    assert environments["production"].app.env == {"KEY": "x"}


def test_a_database_of_ones_own(load_text: Load) -> None:
    text = "name: shop\napp: {command: serve, secrets: {DATABASE_URL: {env: D}}}\ndatabase: none\n"
    assert load_text(text + "environments: {staging: {}}\n").spec.environments["staging"].database is None


def test_harmless_variables_may_look_like_secrets(load_text: Load) -> None:
    env = "{TOKEN_TTL: 3600, PASSWORD_MIN_LENGTH: 12, SECRET_FILE: /run/x, USE_TOKEN: true, PASSWORD: ''}"
    load_text(f"name: shop\napp: {{command: serve, env: {env}}}\nenvironments: {{staging: {{}}}}\n")


def test_merge_keys_and_aliases(load_text: Load) -> None:
    text = "environments:\n  staging: &s {cache: {memory: 1GB}}\n  other: {<<: *s, kind: staging}\n"
    cache = load_text(HEAD + text).spec.environments["other"].cache
    assert cache is not None
    assert str(cache.memory) == "1GB"


def test_a_secret_in_the_command_is_noted(load_text: Load) -> None:
    loaded = load_text("name: shop\napp: {command: serve $DATABASE_URL}\nenvironments: {staging: {}}\n")
    assert any("$DATABASE_URL" in note for note in loaded.warnings)


def test_the_digest_names_the_meaning(load_text: Load) -> None:
    one = load_text(HEAD + "environments: {staging: {cache: {memory: 1GB}}}\n")
    two = load_text("# a comment\n" + HEAD + "environments:\n  staging: {cache: {memory: 1024MB}}\n")
    three = load_text(HEAD + "environments: {staging: {cache: {memory: 2GB}}}\n")
    assert one.digest == two.digest != three.digest


def test_five_thousand_lines_load_within_a_second(load_text: Load) -> None:
    variables = "".join(f"    V{n}: value {n}\n" for n in range(3000))
    environments = "".join(
        f"  e{n}:\n    kind: staging\n    cache: {{memory: {n + 1}MB}}\n" for n in range(700)
    )
    text = f"name: shop\napp:\n  command: serve\n  env:\n{variables}environments:\n{environments}"
    started = time.process_time()
    loaded = load_text(text)
    assert len(loaded.spec.environments) == 700
    assert time.process_time() - started < 2, "about a second on a quiet core"


def test_names_are_read_without_validation(tmp_path: Path) -> None:
    file = tmp_path / "asbuilt.yaml"
    file.write_text("name: shop\napp: 7\nenvironments: {production: {nonsense: 1}, ../x: {}, eu: }\n")
    assert read_names(file) == ("shop", ("production", "eu"))
