"""Plugins that each break one promise, by the test of a suite that must catch them."""

import os
import time
import uuid
from itertools import pairwise
from types import MappingProxyType, SimpleNamespace
from typing import ClassVar

import numpy as np

from nastool.devices import Deployment, Device, Timing, Workload
from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.objective import Kind, Objective, Provenance
from nastool.predictors.base import Prediction, Predictor, check_training_data
from nastool.space import ChainCost
from nastool.strategies.base import Strategy
from nastool.strategies.evolution import Evolution
from nastool.strategies.random import RandomSearch
from nastool.testing import Mixed, Widths

# ---------------------------------------------------------------------------------------- spaces


class ShortSamples(Widths):
    """Leaves duplicates out."""

    def sample(self, n, rng):
        return np.unique(super().sample(n, rng), axis=0)


class NarrowSamples(Widths):
    """Never draws the last choice."""

    def sample(self, n, rng):
        return rng.integers(0, self.cardinalities - 1, size=(n, 4))


class SkewedSamples(Widths):
    """Draws small widths more often."""

    def sample(self, n, rng):
        return np.minimum(super().sample(n, rng), super().sample(n, rng))


class EqualWidths(Widths):
    """Draws one width for all layers."""

    def sample(self, n, rng):
        return np.repeat(super().sample(n, rng)[:, :1], 4, axis=1)


class RepeatedSamples(Widths):
    """Draws ten and repeats them."""

    def sample(self, n, rng):
        return np.resize(super().sample(min(n, 10), rng), (n, 4))


class OwnSamples(Widths):
    """Has a generator of its own, always of the same seed."""

    def sample(self, n, rng):
        return super().sample(n, np.random.default_rng(0))


class SeededSamples(Widths):
    """Seeds the generator of everybody."""

    def sample(self, n, rng):
        np.random.seed(0)  # noqa: NPY002, TID251 - what it gets wrong
        return super().sample(n, rng)


class IntegersOfOtherSize(Widths):
    def sample(self, n, rng):
        return super().sample(n, rng).astype(np.int32)


class CanonicalByBatch(Mixed):
    """The representative is the first of the batch that is alike."""

    def canonicalize(self, genotypes):
        skip = genotypes[:, 0] == 2
        kernel = genotypes[skip, 1][:1].repeat(len(genotypes))
        kernel = np.where(skip, kernel if len(kernel) else 0, genotypes[:, 1])
        return np.column_stack([genotypes[:, 0], kernel, genotypes[:, 2:]])


class CanonicalInPlace(Mixed):
    def canonicalize(self, genotypes):
        genotypes[genotypes[:, 0] == 2, 1] = 0
        return genotypes


class CanonicalTwice(Mixed):
    def canonicalize(self, genotypes):
        return np.column_stack([(genotypes[:, 0] + 1) % 3, genotypes[:, 1:]])


class FeaturesOfTheBatch(Widths):
    """Standardised over the batch."""

    def features(self, genotypes):
        values = super().features(genotypes)
        return values - (values.mean(axis=0) if len(values) else 0)


class RankedFeatures(Widths):
    """How many of the batch are smaller: right for one alone of each batch."""

    def features(self, genotypes):
        return genotypes.argsort(axis=0).argsort(axis=0) * 1.0


class HeuristicsOutside(Widths):
    @property
    def heuristics(self):
        return {"rising": np.array([[0, 1, 2, 5]])}


class HeuristicsOfChoices(Widths):
    """Widths instead of indices."""

    @property
    def heuristics(self):
        return {"rising": np.array([[1, 2, 3, 8]])}


class HeuristicsOfOtherLength(Widths):
    @property
    def heuristics(self):
        return {"short": np.array([[0, 1, 2]])}


class NoEmptyFeatures(Widths):
    def features(self, genotypes):
        return np.stack([super(NoEmptyFeatures, self).features(g[None])[0] for g in genotypes])


class NoEmptyCanonical(Mixed):
    def canonicalize(self, genotypes):
        return np.stack([super(NoEmptyCanonical, self).canonicalize(g[None])[0] for g in genotypes])


class HashedSpace(Widths):
    @property
    def fingerprint(self):
        return f"{hash(self.name):x}"


class UnsortedSpace(Widths):
    """Texts of a set, in an order of this process."""

    @property
    def fingerprint(self):
        return "-".join({gene.name for gene in self.genes})


class SpaceOfThisProcess(Widths):
    @property
    def fingerprint(self):
        return f"widths-{os.getpid()}"


class Mumbling(Mixed):
    """Two shapes share a name."""

    def format(self, genotype):
        return super().format(genotype).replace("conv", "attention")


class Unread(Widths):
    """Parses what it formats into something else."""

    def parse(self, text):
        return super().parse(text)[:, ::-1]


class CostOfAnother(Widths):
    @property
    def costs(self):
        (cost,) = super().costs.values()
        return {"weights": cost}


class CostOfSkipped(Mixed):
    """Counts what is left out."""

    @property
    def costs(self):
        sizes = self.cardinalities
        steps = tuple(np.add.outer(np.zeros(a), np.arange(b)) for a, b in pairwise(sizes))
        return {"size": ChainCost("size", np.arange(sizes[0]) * 1.0, steps)}


class LooseKeys(Widths):
    def keys(self, genotypes):
        return genotypes.sum(axis=1).tolist()


SPACES = {
    "samples_are_as_many_as_asked_for": (ShortSamples,),
    "samples_are_independent_and_uniform": (
        NarrowSamples,
        SkewedSamples,
        EqualWidths,
        RepeatedSamples,
    ),
    "samples_come_from_the_generator": (OwnSamples, SeededSamples),
    "samples_are_valid_and_follow_the_seed": (IntegersOfOtherSize,),
    "rows_do_not_depend_on_the_batch": (CanonicalByBatch, FeaturesOfTheBatch, RankedFeatures),
    "canonicalize_is_idempotent_and_valid": (CanonicalInPlace, CanonicalTwice),
    "heuristics_lie_in_the_space": (
        HeuristicsOutside,
        HeuristicsOfChoices,
        HeuristicsOfOtherLength,
    ),
    "empty_batches": (NoEmptyFeatures, NoEmptyCanonical),
    "fingerprint_is_the_same_in_another_process": (HashedSpace, UnsortedSpace, SpaceOfThisProcess),
    "format_and_parse_are_inverse": (Mumbling, Unread),
    "costs_chain_over_the_genes": (CostOfAnother, CostOfSkipped),
    "keys_identify_genotypes": (LooseKeys,),
}

# ------------------------------------------------------------------------------------ objectives


class Total(Objective):
    """The sum of the indices where the operator is no skip: nothing is wrong with it."""

    name = "total"
    provenance = Provenance(Kind.COMPUTED, "closed form")
    fingerprint = "total"

    def evaluate(self, genotypes):
        return np.where(genotypes[:, 0] == 2, 9.0, genotypes.sum(axis=1))


class Shape(Total):
    name = "shape"


class Feasible(Total):
    name = "feasible"


class Failed(Total):
    name = "failed"


class Disagreeing(Total):
    """Looks at a kernel that is not there."""

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1) * 1.0


class Unpicklable(Total):
    def __init__(self):
        self.function = lambda values: values


class LosesItself(Total):
    """Arrives in other processes without what it knows."""

    def __init__(self):
        self.offset = 3.0

    def __getstate__(self):
        return {"offset": 0.0}

    def evaluate(self, genotypes):
        return super().evaluate(genotypes) + self.offset


class Reseeding(Total):
    def evaluate(self, genotypes):
        np.random.seed(7)  # noqa: NPY002, TID251 - what it gets wrong
        return super().evaluate(genotypes)


class HashedObjective(Total):
    @property
    def fingerprint(self):
        return f"total-{hash('total')}"


class ObjectiveOfThisProcess(Total):
    session = uuid.uuid4().hex

    @property
    def fingerprint(self):
        return f"total-{self.session}"


class OfTheAddress(Total):
    @property
    def fingerprint(self):
        return repr(self)


class Ranked(Total):
    def evaluate(self, genotypes):
        return super().evaluate(genotypes).argsort().argsort() * 1.0


class Standardised(Total):
    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        return values - (values.mean() if len(values) else 0)


class Numbered(Total):
    """The first of each batch pays for the start."""

    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        values[:1] += 5
        return values


class Counting(Total):
    """Grows with each call."""

    calls = 0

    def evaluate(self, genotypes):
        self.calls += 1
        return super().evaluate(genotypes) + self.calls


class OneBuffer(Total):
    """Hands out the same memory again."""

    def __init__(self):
        self.buffer = np.zeros(1_000)

    def evaluate(self, genotypes):
        self.buffer[: len(genotypes)] = super().evaluate(genotypes)
        return self.buffer[: len(genotypes)]


class Sorting(Total):
    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        genotypes.sort(axis=1)
        return values


class Forcing(Total):
    """Makes a read-only array writable first."""

    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        genotypes.flags.writeable = True
        genotypes[:] = 0
        return values


class DirectionAsText(Total):
    direction = "maximize"


class UnitAsNone(Total):
    unit = None


class Milliseconds(Total):
    unit = "ms"


class Megabytes(Total):
    unit = "MB"


class OneColumn(Total):
    def evaluate(self, genotypes):
        return super().evaluate(genotypes)[:, None]


class Integers(Total):
    def evaluate(self, genotypes):
        return super().evaluate(genotypes).astype(int)


class NoNumbers(Total):
    def evaluate(self, genotypes):
        return np.full(len(genotypes), np.nan)


class NotEmpty(Total):
    def evaluate(self, genotypes):
        return super().evaluate(genotypes) + 0 * genotypes.max()


class Spaced(Total):
    name = "top accuracy"


OBJECTIVES = {
    "a_problem_can_have_it": (Shape, Feasible, Failed),
    "equivalent_genotypes_have_equal_values": (Disagreeing,),
    "it_can_be_sent_to_worker_processes": (Unpicklable, LosesItself),
    "the_rest_of_the_program_is_left_alone": (Reseeding,),
    "fingerprint_is_the_same_in_another_process": (HashedObjective, ObjectiveOfThisProcess),
    "description_is_complete_and_stable": (OfTheAddress, DirectionAsText, UnitAsNone),
    "values_do_not_depend_on_the_batch": (Ranked, Standardised, Numbered, OneBuffer),
    "values_repeat": (Counting,),
    "evaluate_returns_one_value_for_each_genotype": (Sorting, Forcing, Integers, NoNumbers),
    "values_are_in_a_base_unit": (Milliseconds, Megabytes),
    "empty_batch": (OneColumn, NotEmpty),
    "constraints_can_name_it": (Spaced,),
}

# ------------------------------------------------------------------------------------ strategies


class Seedless(RandomSearch):
    def __init__(self, problem, seed=0):
        super().__init__(problem, 0)


class GlobalDraws(RandomSearch):
    """Draws from the generator of everybody."""

    def ask(self, n):
        self.rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - its fault
        return super().ask(n)


class Silent(RandomSearch):
    def ask(self, n):
        return super().ask(n)[:0]


class Repeating(Strategy):
    """Always the same few."""

    def __init__(self, problem, seed=0):
        super().__init__(problem, seed)
        self.few = problem.space.canonicalize(problem.sample(3, np.random.default_rng(seed)))

    def ask(self, n):
        return np.resize(self.few, (n, self.few.shape[1]))

    def tell(self, evaluations):
        pass


def with_values(evaluations, objectives=None, violations=None):
    return Evaluations(
        evaluations.genotypes,
        evaluations.objectives if objectives is None else objectives,
        evaluations.violations if violations is None else violations,
    )


class WrongSign(Evolution):
    def tell(self, evaluations):
        super().tell(with_values(evaluations, objectives=-evaluations.objectives))


class SignTwice(Evolution):
    """Turns what is maximised round again, though it is told what is to be minimised."""

    def tell(self, evaluations):
        signs = [objective.direction.sign for objective in self.problem.objectives]
        super().tell(with_values(evaluations, objectives=evaluations.objectives * signs))


class WrongSecondSign(Evolution):
    """Every objective but the first one."""

    def tell(self, evaluations):
        signs = np.where(np.arange(evaluations.objectives.shape[1]) > 0, -1.0, 1.0)
        super().tell(with_values(evaluations, objectives=evaluations.objectives * signs))


class Unconstrained(Evolution):
    """Knows nothing of constraints that are honoured in the ranking."""

    def tell(self, evaluations):
        super().tell(with_values(evaluations, violations=np.zeros_like(evaluations.violations)))


class WrongSense(Evolution):
    """Seeks what breaks the constraints."""

    def tell(self, evaluations):
        super().tell(with_values(evaluations, violations=-evaluations.violations))


class Stubborn(RandomSearch):
    """Remembers only what it has learned from."""

    def tell(self, evaluations):
        super().tell(evaluations.take(np.isfinite(evaluations.objectives[:, 0])))


class Forgetful(RandomSearch):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class ForgetsItsDraws(RandomSearch):
    """Restores what it has seen, but not its generator."""

    def load_state_dict(self, state):
        self._seen.restore(state["seen"])


class ForgetsWhatIsSeen(RandomSearch):
    def load_state_dict(self, state):
        Strategy.load_state_dict(self, state)


class StateOfObjects(RandomSearch):
    def state_dict(self):
        return {**super().state_dict(), "generator": self.rng}


class LivingState(RandomSearch):
    """Hands out what it goes on changing."""

    def __init__(self, problem, seed=0):
        super().__init__(problem, seed)
        self.log = []

    def tell(self, evaluations):
        super().tell(evaluations)
        self.log.append(len(evaluations))

    def state_dict(self):
        return {**super().state_dict(), "log": self.log}


class Careless(RandomSearch):
    """Proposes what is not allowed, and not in canonical form."""

    def ask(self, n):
        return self.problem.space.sample(n, self.rng)


class TooMany(RandomSearch):
    def ask(self, n):
        return super().ask(n + 1)


class Meddling(RandomSearch):
    """Changes what it is told."""

    def tell(self, evaluations):
        evaluations.objectives[np.isnan(evaluations.objectives)] = 1e9
        super().tell(evaluations)


STRATEGIES = {
    "search_follows_the_seed": (Seedless, GlobalDraws),
    "something_new_is_proposed": (Silent, Repeating),
    "learning_does_better_than_chance": (
        WrongSign,
        SignTwice,
        WrongSecondSign,
        Unconstrained,
        WrongSense,
    ),
    "what_has_failed_is_not_proposed_again": (Stubborn,),
    "resuming_equals_never_having_stopped": (
        Forgetful,
        ForgetsItsDraws,
        ForgetsWhatIsSeen,
        StateOfObjects,
    ),
    "state_is_a_snapshot": (LivingState,),
    "asked_genotypes_are_canonical_and_admissible": (Careless, TooMany, Meddling),
}

# --------------------------------------------------------------------------------------- devices


class Module:
    """What a device needs of a torch.nn.Module."""

    training = False

    def __init__(self, size=4):
        self.weights = {"weight": np.ones((size, size))}
        self.hooks = []

    def add_module(self, name, module):
        self.weights[name] = module.weights["weight"]

    def register_forward_pre_hook(self, hook):
        self.hooks.append(hook)

    def state_dict(self):
        return self.weights

    def __call__(self, **inputs):
        for hook in self.hooks:
            hook(self, ())
        return inputs["values"] @ self.weights["weight"]


def deployment():
    return Deployment(Module(), {"values": np.ones((8, 4))}, Workload(8))


class Clocked(Device):
    """Runs the module and looks at the clock: nothing is wrong with it."""

    facts = MappingProxyType({"clock": "perf_counter"})

    def measure(self, deployment, warmup, repeats):
        for _ in range(warmup):
            deployment.module(**deployment.inputs)
        return Timing(np.array(self.durations(deployment, repeats)))

    def durations(self, deployment, repeats):
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            deployment.module(**deployment.inputs)
            seconds.append(time.perf_counter() - begin)
        return seconds


class Imaginary(Device):
    """A nanosecond a weight, as a simulator may say: nothing is wrong with it."""

    facts = MappingProxyType({"clock": "imaginary"})

    def measure(self, deployment, warmup, repeats):
        weights = sum(weight.size for weight in deployment.module.weights.values())
        return Timing(np.full(repeats, 1e-9 * weights))


class WarmupCounted(Clocked):
    def measure(self, deployment, warmup, repeats):
        return Timing(np.array(self.durations(deployment, warmup + repeats)))


class WarmupAveraged(Clocked):
    """One number, the warm-up in it."""

    def measure(self, deployment, warmup, repeats):
        return Timing(np.array([np.mean(self.durations(deployment, warmup + repeats))]))


class WarmupInstead(Clocked):
    """Times the first passes, and warms up afterwards."""

    def measure(self, deployment, warmup, repeats):
        seconds = self.durations(deployment, repeats)
        for _ in range(warmup):
            deployment.module(**deployment.inputs)
        return Timing(np.array(seconds))


class InMilliseconds(Clocked):
    def durations(self, deployment, repeats):
        return [1e3 * second for second in super().durations(deployment, repeats)]


class InMinutes(Clocked):
    def durations(self, deployment, repeats):
        return [second / 60 for second in super().durations(deployment, repeats)]


class NothingRun(Clocked):
    """Times an empty loop."""

    def durations(self, deployment, repeats):
        for _ in range(repeats):
            deployment.module(**deployment.inputs)
        return super().durations(SimpleNamespace(module=lambda: None, inputs={}), repeats)


class Constant(Clocked):
    def durations(self, deployment, repeats):
        return [1e-4] * repeats


class ChangesInputs(Clocked):
    def durations(self, deployment, repeats):
        deployment.inputs["values"][:] = 0
        return super().durations(deployment, repeats)


class ReplacesInputs(Clocked):
    """Another precision, for good."""

    def durations(self, deployment, repeats):
        deployment.inputs["values"] = deployment.inputs["values"].astype(np.float32)
        return super().durations(deployment, repeats)


class ChangesWeights(Clocked):
    def durations(self, deployment, repeats):
        deployment.module.weights["weight"] = np.zeros((4, 4), dtype=np.float32)
        return super().durations(deployment, repeats)


class ChangesMode(Clocked):
    def durations(self, deployment, repeats):
        deployment.module.training = True
        return super().durations(deployment, repeats)


class FactsOfToday(Clocked):
    @property
    def facts(self):
        return {"started": time.perf_counter()}


class FactsOfObjects(Clocked):
    facts = MappingProxyType({"version": (1, 2)})


DEVICES = {
    "warmup_is_not_timed": (WarmupCounted, WarmupAveraged, WarmupInstead),
    "durations_are_seconds": (InMilliseconds, InMinutes, NothingRun),
    "durations_depend_on_the_architecture": (Constant,),
    "an_architecture_is_left_as_it_was": (
        ChangesInputs,
        ReplacesInputs,
        ChangesWeights,
        ChangesMode,
    ),
    "facts_are_json_and_stable": (FactsOfToday, FactsOfObjects),
}

# ------------------------------------------------------------------------------------ predictors


class Line(Predictor):
    """Least squares: nothing is wrong with it."""

    kind = "line"
    label = "Line"

    weights = None

    def fit(self, features, targets, *, genes=None):
        features, targets, _ = check_training_data(features, targets, genes)
        self.weights = np.linalg.lstsq(self.design(features), targets)[0]

    def design(self, features):
        return np.column_stack([features, np.ones(len(features))])

    def predict(self, features):
        if self.weights is None:
            raise InvalidInputError("the predictor must be fitted first")
        # Rows one by one: products of matrices differ in the last bits.
        return Prediction((self.design(features) * self.weights).sum(axis=1))

    def save(self, folder):
        np.savez(folder / "line.npz", weights=self.weights)

    def load(self, folder):
        with np.load(folder / "line.npz", allow_pickle=False) as arrays:
            self.weights = arrays["weights"]


class RoundedOnDisk(Line):
    def save(self, folder):
        np.savez(folder / "line.npz", weights=self.weights.astype(np.float32))


class Pickled(Line):
    def save(self, folder):
        np.savez(folder / "line.npz", weights=self.weights, names=np.array([None, {}]))


class SavesNothing(Line):
    kept: ClassVar = {}

    def save(self, folder):
        self.kept["weights"] = self.weights

    def load(self, folder):
        self.weights = self.kept["weights"]


class ReadsLater(Line):
    """Needs its folder as long as it lives."""

    folder = None

    def load(self, folder):
        self.folder = folder
        super().load(folder)

    def predict(self, features):
        if self.folder is not None:
            super().load(self.folder)
        return super().predict(features)


class RandomFit(Line):
    def fit(self, features, targets, *, genes=None):
        rows = np.random.default_rng().permutation(len(targets))[: len(targets) // 2]
        super().fit(features[rows], targets[rows])
        check_training_data(features, targets, genes)


class GlobalFit(Line):
    def fit(self, features, targets, *, genes=None):
        super().fit(features, targets)
        self.weights = self.weights + 1e-3 * np.random.rand(6)  # noqa: NPY002 - its fault


class CentredByBatch(Line):
    def predict(self, features):
        mean = super().predict(features).mean
        return Prediction(mean - (mean.mean() - 40 if len(mean) else 0))


class SortsRows(Line):
    def predict(self, features):
        return Prediction(np.sort(super().predict(features).mean))


class OneUnit(Line):
    """A penalty that means something in one unit only."""

    def fit(self, features, targets, *, genes=None):
        super().fit(features, targets)
        self.weights = np.clip(self.weights, -1e3, 1e3)


class NeverNegative(Line):
    def predict(self, features):
        return Prediction(np.maximum(super().predict(features).mean, 0))


class BarsOfNothing(Line):
    def predict(self, features):
        mean = super().predict(features).mean
        return Prediction(mean, np.zeros_like(mean))


class BarsInAnotherUnit(Line):
    def predict(self, features):
        mean = super().predict(features).mean
        return Prediction(mean, np.full_like(mean, 1e-3))


class HugeBars(Line):
    def predict(self, features):
        mean = super().predict(features).mean
        return Prediction(mean, np.full_like(mean, 1e6))


class ChangesTable(Line):
    def fit(self, features, targets, *, genes=None):
        targets -= targets.mean()
        super().fit(features, targets)


class KeepsTheTable(Line):
    """Looks at the caller's arrays when it predicts."""

    def fit(self, features, targets, *, genes=None):
        super().fit(features, targets)
        self.table = features, targets

    def predict(self, features):
        if self.weights is not None:
            super().fit(*self.table)
        return super().predict(features)


class Accumulating(Line):
    """Fitted again, it is still what it was first."""

    def fit(self, features, targets, *, genes=None):
        if self.weights is None:
            super().fit(features, targets)


class Backwards(Line):
    def predict(self, features):
        return Prediction(60 - super().predict(features).mean)


class Mean(Line):
    def predict(self, features):
        return Prediction(super().predict(features).mean * 0 + 40)


class Column(Line):
    def predict(self, features):
        return Prediction(super().predict(features).mean[:, None])


class Unfitted(Line):
    weights = np.ones(6)


class TakesAnything(Line):
    def fit(self, features, targets, *, genes=None):
        rows = min(len(features), len(targets))
        design = np.nan_to_num(self.design(features[:rows]), posinf=0)
        self.weights = np.linalg.lstsq(design, np.nan_to_num(targets[:rows]))[0]


class OtherGrid(Line):
    def on_grid(self, values):
        return SimpleNamespace(predict=lambda genotypes: genotypes.sum(axis=1) * 1.0)


PREDICTORS = {
    "it_survives_the_disk": (RoundedOnDisk, Pickled, SavesNothing, ReadsLater),
    "fitting_again_gives_the_same": (RandomFit, GlobalFit),
    "rows_do_not_depend_on_the_batch": (CentredByBatch, SortsRows),
    "targets_may_be_in_any_unit": (OneUnit, NeverNegative),
    "error_bars_are_in_the_targets_unit": (BarsOfNothing, BarsInAnotherUnit, HugeBars),
    "tables_are_left_as_they_were": (ChangesTable, KeepsTheTable),
    "only_the_last_table_counts": (Accumulating,),
    "it_learns": (Backwards, Mean),
    "what_it_predicts_has_a_row_for_each": (Column,),
    "it_must_be_fitted_first": (Unfitted,),
    "what_cannot_be_learned_from_is_refused": (TakesAnything,),
    "a_faster_form_predicts_the_same": (OtherGrid,),
}
