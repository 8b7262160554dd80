from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from asbuilt.spec.presets import PRESETS
from asbuilt.spec.schema import Spec


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mappings key by key."""
    result = dict(base)
    for key, value in over.items():
        below = base.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        result[key] = merged(below, value) if both and below is not None else value
    return result


def spec_of(name: str = "shop", /, **environments: dict[str, Any]) -> Spec:
    """A spec of presets and what is laid over them; an environment's `kind` is its name when it has none."""
    complete = {
        environment: merged(
            {**PRESETS[own.get("kind", environment)], "kind": environment},
            merged({"app": {"command": "serve --port $PORT"}}, own),
        )
        for environment, own in environments.items()
    }
    return Spec.model_validate({"name": name, "environments": complete})


@st.composite
def environments(draw: st.DrawFn) -> dict[str, Any]:
    """The owner's part of one environment: any kind, any size, anything left out."""
    kind = draw(st.sampled_from(["development", "staging", "production"]))
    own: dict[str, Any] = {"kind": kind, "app": {"instances": draw(st.integers(1, 30))}}
    replicas = st.integers(0, 8).map(lambda n: {"replicas": n})
    own |= draw(st.fixed_dictionaries({}, optional={"database": replicas, "cache": replicas}))
    for block in draw(st.sets(st.sampled_from(["database", "cache", "objects", "files", "load_balancer"]))):
        own[block] = None
    return own
