"""`asbuilt init` and `asbuilt check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.cli.output import print_json, say
from asbuilt.context import find_home, find_spec
from asbuilt.spec.infer import infer
from asbuilt.spec.load import load
from asbuilt.values.errors import EXIT_DONE, RefusedError, UsageError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from argparse import Namespace

    from asbuilt.operations.migrations import Review
    from asbuilt.spec.load import Loaded


def run(arguments: Namespace) -> int:
    """Dispatch the two verbs."""
    return _init(arguments) if arguments.verb == "init" else _check(arguments)


def _init(arguments: Namespace) -> int:
    file = find_spec(arguments.file)
    inferred = infer(Path(file).absolute().parent)
    if not arguments.dry_run:
        if file.exists() and not arguments.force:
            raise RefusedError(
                "INIT-001",
                f"{file} is there already",
                where=str(file),
                hint="asbuilt init --force replaces it",
            )
        file.write_text(inferred.text)
    if arguments.json:
        print_json({"file": str(file), "text": inferred.text, "assumptions": list(inferred.assumptions)})
        return EXIT_DONE
    if arguments.dry_run:
        print(inferred.text, end="")
    for assumption in inferred.assumptions:
        say(f"assumed: {assumption}")
    if not arguments.dry_run:
        say(f"wrote {file}; next: asbuilt up development")
    return EXIT_DONE


def _check(arguments: Namespace) -> int:
    file = find_spec(arguments.file)
    loaded = load(file)
    known = tuple(loaded.spec.environments)
    if arguments.environment is not None and arguments.environment not in known:
        raise UsageError(
            "CLI-003",
            f"no environment {arguments.environment!r} in {file}",
            hint=f"it has {', '.join(known)}",
        )
    reviews = _review(loaded, (arguments.environment,) if arguments.environment else known)
    unread = [
        f"environments.{name}: new migrations were not compared with the release that serves: {one.unread}"
        for name, one in reviews.items()
        if one.unread
    ]
    if arguments.json:
        print_json(
            {
                "file": str(file),
                "name": loaded.spec.name,
                "environments": list(known),
                "warnings": [*loaded.warnings, *unread],
                "migrations": [
                    {"environment": name, "release": one.release, **finding.to_json()}
                    for name, one in reviews.items()
                    for finding in one.findings
                ],
            }
        )
        return EXIT_DONE
    print(f"{file}: {loaded.spec.name} is fine, environments {', '.join(known)}")
    for warning in (*loaded.warnings, *unread):
        say(f"note: {warning}")
    told = {  # two environments that have the same release before them need it once
        (one.code, one.where, one.what): one for review in reviews.values() for one in review.findings
    }
    for finding in told.values():
        say(f"\n{finding.render()}")
    return EXIT_DONE


def _review(loaded: Loaded, environments: tuple[str, ...]) -> dict[str, Review]:
    """The new migrations, beside the release that serves; only environments that ever ran have one."""
    home = find_home()
    stages = [Stage(loaded.file, loaded.spec.name, name, home) for name in environments]
    ran = [stage for stage in stages if (stage.root / "journal.sqlite").is_file()]
    if not ran:
        return {}
    from asbuilt.operations.migrations import review

    return {stage.environment: review(stage, loaded) for stage in ran}
