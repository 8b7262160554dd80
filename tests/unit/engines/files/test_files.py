from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.engines.files.engine import FilesEngine, files_dir
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.plan.site import Entry, Site
from asbuilt.values.secret import Secret
from support.specs import spec_of

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shared_folder_is_made_once_and_is_private(tmp_path: Path) -> None:
    architecture = build(spec_of(production={}), "production")
    site = Site(tmp_path, tmp_path, {}, {}, Entry("", None, None), {}, Secret, None, {}, 1, 1)
    made = FilesEngine().realize(architecture, site, Runner(find_identity()))
    assert made.workloads == ()
    (setup,) = made.setups
    assert not setup.satisfied()
    setup.run()
    (files_dir(site) / "kept").touch()
    setup.run()
    assert setup.satisfied()
    assert files_dir(site).stat().st_mode & 0o777 == 0o700
    assert (files_dir(site) / "kept").exists()
