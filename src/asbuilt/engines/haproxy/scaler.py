"""The process that changes the number of app servers with the load, as a helper of the load balancer's node.

It is ours and not the app's, so it runs as asbuilt does. Invariant: traffic does not need it; without it the
number stays as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.plan.autoscale import settings_of
from asbuilt.plan.workload import Probe, Stop, Workload
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

MODULE: Final = "asbuilt.operations.scaler"
NAME: Final = "scaler"


def build_scaler(architecture: Architecture, site: Site) -> Workload | None:
    """Its workload; None where there is nothing to scale, or no load balancer that counts the load."""
    balancers, app = architecture.of(Kind.LOAD_BALANCER), architecture.spec.app
    if not balancers or app.instances.minimum == app.instances.maximum:
        return None
    node = balancers[0]
    settings = asdict(settings_of(app))
    settings["expected"] = sorted(settings["expected"])
    return Workload(
        id=f"{node.id}.{NAME}",
        node=node.id,
        kind=node.kind,
        engine="asbuilt",
        argv=(
            own_python(),
            "-P",  # the folder it starts in must not be able to shadow a module
            "-m",
            MODULE,
            str(site.project / site.file),
            site.root.parent.name,
            site.root.name,
            str(site.root.parent.parent),
            json.dumps(settings, sort_keys=True),
        ),
        cwd=str(site.root),
        ready=Probe(),
        needs=(node.id,),
        stop=Stop(grace=5.0),
        address=site.addresses[node.id],
        zone=node.zone,
        unprivileged=False,
    )
