"""An objective of its own module, by whose name workers import it, and little else."""

from __future__ import annotations

import os
import signal
import sys
import time

from nastool.errors import NastoolError
from nastool.objective import Kind, Objective, Provenance


class Scripted(Objective):
    """Twice the genotype; what else happens is written in it."""

    def __init__(self, actions: dict[int, str] | None = None) -> None:
        self.actions = actions or {}

    @property
    def name(self):
        return "scripted"

    @property
    def provenance(self):
        return Provenance(Kind.MEASURED, "a script")

    @property
    def fingerprint(self):
        return "scripted"

    def evaluate(self, genotypes):
        for number in genotypes[:, 0].tolist():
            action = self.actions.get(number)
            if action == "raise":
                raise ValueError(f"no {number}")
            if action == "die":
                os._exit(9)
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "exit":
                sys.exit(0)
            if action == "sleep":
                time.sleep(60)
            if action == "refuse":
                raise NastoolError("plug the device in")
        return 2.0 * genotypes[:, 0]
