"""A space and a device for the tests of the command line; their noise is a setting."""

from pathlib import Path

import numpy as np

from nastool.devices import Deployment, Device, Timing
from nastool.plugins import register_device, register_objective, register_space
from nastool.testing import Formula, Widths


@register_objective("badness")
def badness(space, argument=None):
    """Falls with every width."""
    return Formula("badness", lambda genotypes: 100.0 - genotypes.sum(axis=1))


@register_space("runnable")
class Runnable(Widths):
    """Four widths whose "model" is the number of seconds a pass takes."""

    def __init__(self, argument=None):
        super().__init__(layers=int(argument or 4))

    def deploy(self, genotype, workload):
        seconds = 1e-3 * float(self.costs["params"].evaluate(genotype[None])[0])
        return Deployment(seconds * workload.batch_size, {}, workload)


@register_space("served")
class Served(Runnable):
    """Each pass is followed by one that takes a tenth of the last gene's share."""

    def deploy(self, genotype, workload):
        whole = super().deploy(genotype, workload)
        after = Deployment(1e-4 * float(1 + genotype[-1]), {}, workload)
        return Deployment(whole.module, {}, workload, following=after)


@register_space("immobile")
class Immobile(Widths):
    """Cannot be built."""

    name = "immobile"

    def __init__(self, argument=None):
        super().__init__(layers=2)


@register_device("simulated")
class Simulated(Device):
    """Takes the seconds that the model says, with noise of a known size."""

    def __init__(self, argument=None, *, threads: int = 1, noise: float = 0.0):
        self.noise = noise
        self.threads = threads
        self._rng = np.random.default_rng(0)

    @property
    def facts(self):
        return {"noise": self.noise, "threads": self.threads}

    def measure(self, deployment, warmup, repeats):
        factors = 1 + self.noise * self._rng.standard_normal()
        return Timing(np.full(repeats, deployment.module * max(factors, 0.01)))


@register_device("metered")
class Metered(Device):
    """Says energy and memory, too, writes down every visit, and is as much slower as a file says.

    Args:
        argument: ``coarse`` for a counter that never moves, ``flat`` for a peak of all shapes.
    """

    times_following = True

    def __init__(self, argument=None):
        self.argument = argument

    @property
    def facts(self):
        return {"meter": self.argument or "fine"}

    def measure(self, deployment, warmup, repeats):
        with open("visits.txt", "a", encoding="utf-8") as file:
            file.write("visit\n")
        changed = Path("slower.txt")
        seconds = deployment.module * (float(changed.read_text()) if changed.exists() else 1.0)
        memory = 1e6 if self.argument == "flat" else 1e6 + 1e8 * seconds
        energy = 0.0 if self.argument == "coarse" else 7.0 * seconds
        return Timing(np.full(repeats, seconds), memory=memory, energy=energy)
