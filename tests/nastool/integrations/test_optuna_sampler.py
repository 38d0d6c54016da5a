import copy
import pickle  # noqa: TID251 - only what these tests have written is read
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pytest

from nastool.errors import InfeasibleError, InvalidInputError, NastoolError
from nastool.strategies.evolution import Evolution
from nastool.strategies.random import RandomSearch

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nastool.integrations.optuna import Budget, NastoolSampler  # noqa: E402
from nastool.integrations.optuna_replica import batch_of  # noqa: E402

STRATEGIES = ("random", "evolution", "pareto", "local", "nsga2")
SPACE = {
    "width": IntDistribution(16, 128, step=16),
    "depth": IntDistribution(1, 12),
    "rate": FloatDistribution(0.0, 0.5, step=0.1),
    "norm": CategoricalDistribution((None, "layer", "batch")),
}


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


def suggest(trial):
    return (
        trial.suggest_int("width", 16, 128, step=16),
        trial.suggest_int("depth", 1, 12),
        trial.suggest_float("rate", 0.0, 0.5, step=0.1),
        trial.suggest_categorical("norm", (None, "layer", "batch")),
    )


def loss(trial):
    width, depth, rate, norm = suggest(trial)
    return (width / 16 - 6) ** 2 + (depth - 9) ** 2 + 20 * rate + (norm != "layer")


def both(trial):
    width, depth, rate, norm = suggest(trial)
    return 1e3 / (width * depth) + rate + (norm != "layer"), -width * depth


def optimize(sampler, objective=loss, n=60, directions=("minimize",), study=None):
    study = study or optuna.create_study(sampler=sampler, directions=directions)
    study.optimize(objective, n_trials=n)
    return study


def proposals(study):
    return [tuple(trial.params.items()) for trial in study.trials]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_searches_one_objective(strategy):
    study = optimize(NastoolSampler(strategy, 0))
    assert len(study.trials) == 60
    assert len(set(proposals(study))) > 50
    assert study.best_value < 40


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_searches_two_objectives_in_either_direction(strategy):
    sampler = NastoolSampler(strategy, 1)
    study = optimize(sampler, both, directions=("minimize", "maximize"))
    assert len(study.best_trials) >= 1
    assert {len(trial.values) for trial in study.trials} == {2}


def test_evolution_beats_random_draws():
    def median(strategy):
        settings = {"population_size": 20, "mutation_probability": 0.2}
        settings = settings if strategy == "evolution" else {}
        runs = [optimize(NastoolSampler(strategy, s, settings=settings), n=80) for s in range(3)]
        return np.median([run.best_value for run in runs])

    assert median("evolution") < median("random")


def test_maximising_is_the_mirror_of_minimising():
    first = optimize(NastoolSampler("pareto", 3, search_space=SPACE))
    mirrored = optimize(
        NastoolSampler("pareto", 3, search_space=SPACE),
        lambda trial: -loss(trial),
        directions=("maximize",),
    )
    assert proposals(first) == proposals(mirrored)


def test_the_seed_fixes_every_proposal():
    one, same, other = (proposals(optimize(NastoolSampler("pareto", s))) for s in (5, 5, 6))
    assert one == same
    assert one != other


@pytest.mark.parametrize("strategy", ["random", "evolution", "pareto", "local"])
def test_a_study_goes_on_in_another_process(strategy):
    whole = optimize(NastoolSampler(strategy, 7, search_space=SPACE))
    parts = optimize(NastoolSampler(strategy, 7, search_space=SPACE), n=25)
    parts.sampler = NastoolSampler(strategy, 7, search_space=SPACE)
    optimize(None, n=35, study=parts)
    assert proposals(parts) == proposals(whole)


def test_strategies_learn_from_trials_of_others():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optimize(None, study=study, n=50)
    study.sampler = NastoolSampler(
        "evolution", 0, settings={"population_size": 25, "mutation_probability": 0.1}
    )
    before = np.median([trial.value for trial in study.trials])
    optimize(None, study=study, n=50)
    assert np.median([trial.value for trial in study.trials[50:]]) < before / 2


def test_constraints_are_honoured():
    def constrained(trial):
        value = loss(trial)
        depth = trial.params["depth"]
        trial.set_user_attr("violation", depth - 4)
        if hasattr(trial, "set_constraint"):
            trial.set_constraint("depth", depth - 4)
        return value

    modern = hasattr(optuna.trial.Trial, "set_constraint")
    function = None if modern else lambda trial: (trial.user_attrs["violation"],)
    sampler = NastoolSampler("pareto", 2, settings={"initial": 20}, constraints_func=function)
    study = optimize(sampler, constrained, n=120)
    late = [trial.user_attrs["violation"] <= 0 for trial in study.trials[60:]]
    assert np.mean(late) > 0.6  # a third of all depths is allowed
    assert study.best_trial.params["depth"] <= 4


def test_constraints_by_a_function_are_stored():
    sampler = NastoolSampler("random", 0, constraints_func=lambda t: (t.params["depth"] - 4.0,))
    study = optimize(sampler, n=5)
    assert [list(t.system_attrs["constraints"]) for t in study.trials] == [
        [t.params["depth"] - 4.0] for t in study.trials
    ]


def test_failed_trials_are_not_proposed_again():
    def flaky(trial):
        if trial.number % 3 == 1:
            suggest(trial)
            raise ValueError
        return loss(trial)

    study = optuna.create_study(sampler=NastoolSampler("pareto", 0, search_space=SPACE))
    study.optimize(flaky, n_trials=40, catch=(ValueError,))
    assert len(set(proposals(study))) == 40


def test_spaces_that_grow_are_followed():
    def growing(trial):
        value = loss(trial) if trial.number < 20 else loss(trial) + trial.suggest_int("more", 0, 9)
        return value - (trial.suggest_int("only", 1, 1) - 1)

    study = optimize(NastoolSampler("evolution", 0), growing, n=40)
    assert all("more" in trial.params for trial in study.trials[20:])


def test_exhausted_spaces_still_get_trials():
    sampler = NastoolSampler("random", 0)
    study = optimize(sampler, lambda trial: trial.suggest_int("x", 0, 3), n=12)
    assert {trial.params["x"] for trial in study.trials[:6]} == {0, 1, 2, 3}
    assert len(study.trials) == 12


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 0.3, 0.1), (0.1, 0.7, 0.1), (-1, 1, 0.4)])
def test_every_value_of_a_float_is_proposed_as_it_is(low, high, step):
    asked = []

    def objective(trial):
        asked.append(trial.suggest_float("x", low, high, step=step))
        return 0.0

    count = round((high - low) / step) + 1
    study = optimize(
        NastoolSampler("random", 0, search_space={"x": FloatDistribution(low, high, step=step)}),
        objective,
        count,
    )
    expected = [Decimal(str(low)) + k * Decimal(str(step)) for k in range(count)]
    assert sorted(asked) == [float(value) for value in expected]
    assert [trial.params["x"] for trial in study.trials] == asked


def test_a_strategy_for_one_objective_is_a_sampler_of_one():
    pytest.importorskip("pymoo")
    study = optimize(NastoolSampler("pymoo:ga", 0, settings={"population_size": 4}), n=9)
    assert len(study.trials) == 9
    with pytest.raises(InvalidInputError, match="takes one objective"):
        optimize(NastoolSampler("pymoo:ga", 0), both, 2, ("minimize", "maximize"))
    with pytest.raises(InvalidInputError, match="population_size must be at least 2, got 1"):
        NastoolSampler("pymoo:ga", settings={"population_size": 1})


def test_threads_share_a_sampler():
    study = optuna.create_study(sampler=NastoolSampler("evolution", 0, search_space=SPACE))

    def work(_):
        trial = study.ask(SPACE)
        study.tell(trial, loss(trial))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    assert len(study.trials) == 40


def test_strategies_may_be_given_as_factories():
    def factory(problem, seed):
        return Evolution(problem, seed, population_size=10)

    study = optimize(NastoolSampler(factory, 0), n=20)
    assert len(study.trials) == 20
    with pytest.raises(InvalidInputError, match="settings must come with the name"):
        NastoolSampler(RandomSearch, settings={"population_size": 3})


def test_bad_input_is_told_at_once():
    with pytest.raises(InvalidInputError, match="evolution"):
        NastoolSampler("evolutoin")
    with pytest.raises(NastoolError):
        NastoolSampler("evolution", settings={"nonsense": 1})
    with pytest.raises(InvalidInputError, match="grid must be at least 2, got 1"):
        NastoolSampler("random", grid=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": 3}, "a strategy must be a name or what makes one"),
        ({"seed": "x"}, "a seed must be a whole number, got 'x'"),
        ({"seed": -1}, "a seed must be at least 0, got -1"),
        ({"settings": 3}, "settings must be by name, got 3"),
        ({"grid": 2.5}, "grid must be a whole number, got 2.5"),
        ({"search_space": [1]}, r"a search_space must be by name, got \[1\]"),
        ({"search_space": {"x": 3}}, "x must be a distribution of Optuna's, got 3"),
        ({"constraints_func": 3}, "constraints_func must be a function of a trial, got 3"),
        ({"budgets": 3, "search_space": {}}, "budgets must be a list, got int 3"),
        ({"budgets": [3], "search_space": {}}, "each of the budgets must be a Budget, got 3"),
    ],
)
def test_what_is_of_another_kind_is_one_line(given, message):
    with pytest.raises(InvalidInputError, match=message):
        NastoolSampler(**{"strategy": "random", **given})


def test_numpys_numbers_are_seeds():
    assert NastoolSampler("random", np.int64(3))._seed == 3


def test_floats_without_a_step_are_searched_on_a_grid_even_or_in_even_ratios():
    space = {"x": FloatDistribution(0, 1), "rate": FloatDistribution(1e-4, 1, log=True)}
    sampler = NastoolSampler("random", 0, search_space=space, grid=5)
    study = optuna.create_study(sampler=sampler)
    for _ in range(25):
        study.tell(study.ask(space), 0.0)
    assert len(set(proposals(study))) == 25
    seen = {name: sorted({trial.params[name] for trial in study.trials}) for name in space}
    assert seen["x"] == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(seen["rate"], [1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_beyond_the_points_of_a_grid_values_are_drawn_independently():
    space = {"x": FloatDistribution(0, 1)}
    study = optuna.create_study(sampler=NastoolSampler("random", 0, search_space=space, grid=5))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=60)
    values = [trial.params["x"] for trial in study.trials]
    assert set(values) > {0, 0.25, 0.5, 0.75, 1}
    assert len(set(values)) == 60


@pytest.mark.parametrize(
    ("distribution", "median"),
    [
        (IntDistribution(0, 10**12), 5 * 10**11),
        (IntDistribution(1, 10**8, log=True), 10**4),
        (FloatDistribution(0.0, 1e6, step=1e-3), 5e5),
        (FloatDistribution(-1.7e308, 1.7e308), 0.0),
    ],
)
def test_ranges_of_any_size_are_searched_from_end_to_end(distribution, median):
    sampler = NastoolSampler("random", 0, search_space={"x": distribution})
    study = optuna.create_study(sampler=sampler)
    values = []
    for _ in range(101):
        trial = study.ask({"x": distribution})
        values.append(trial.params["x"])
        study.tell(trial, 0.0)
    assert all(distribution._contains(value) for value in values)
    assert {type(value) for value in values} == {type(distribution.low)}
    assert (min(values), max(values)) == (distribution.low, distribution.high)
    assert np.median(values) == pytest.approx(median, rel=0.2, abs=distribution.high / 50)


def test_trials_of_others_between_the_points_of_a_grid_are_learnt_from():
    space = {f"x{i}": FloatDistribution(-1, 1) for i in range(4)}

    def sphere(trial):
        return sum(trial.suggest_float(name, -1, 1) ** 2 for name in space)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(sphere, n_trials=60)
    before = study.best_value
    study.sampler = NastoolSampler("pareto", 0, settings={"initial": 20}, grid=17)
    study.optimize(sphere, n_trials=100)
    assert study.best_value < before / 2


def cost(params):
    return params["width"] * params["depth"] + 8 * params["depth"] * (params["norm"] is not None)


ORDERED = {name: SPACE[name] for name in ("width", "depth", "norm", "rate")}


def neighbourly(params):
    """A sum of terms in neighbours: width and depth, depth and norm."""
    return cost(params)


def budget_of(upper, function=neighbourly):
    return Budget(function, upper=upper, name="size")


def everything(upper):
    widths, depths = range(16, 129, 16), range(1, 13)
    norms = (None, "layer", "batch")
    allowed = [
        (w, d, n)
        for w in widths
        for d in depths
        for n in norms
        if cost({"width": w, "depth": d, "norm": n}) <= upper
    ]
    return len(allowed)


@pytest.mark.parametrize("strategy", ["random", "evolution", "pareto", "local"])
def test_a_budget_is_kept_by_every_proposal_and_every_point_within_is_tried_once(strategy):
    space = {name: ORDERED[name] for name in ("width", "depth", "norm")}
    sampler = NastoolSampler(strategy, 0, search_space=space, budgets=[budget_of(60)], stop=True)
    study = optuna.create_study(sampler=sampler)

    def objective(trial):
        params = {name: trial._suggest(name, distribution) for name, distribution in space.items()}
        assert cost(params) <= 60
        return -params["width"]

    study.optimize(objective, n_trials=500)
    assert len(study.trials) == everything(60) == len(set(proposals(study)))


def test_a_study_stops_once_everything_was_tried_by_whomever():
    space = {"x": IntDistribution(0, 4)}
    study = optuna.create_study(sampler=NastoolSampler("random", 0, search_space=space, stop=True))
    study.enqueue_trial({"x": 2})
    study.add_trial(optuna.create_trial(params={"x": 4}, distributions=space, value=0.0))
    study.optimize(lambda trial: trial.suggest_int("x", 0, 4), n_trials=50)
    assert sorted(trial.params["x"] for trial in study.trials) == [0, 1, 2, 3, 4]
    copied = pickle.loads(pickle.dumps(study))
    copied.optimize(lambda trial: trial.suggest_int("x", 0, 4), n_trials=50)
    assert len(copied.trials) == 6  # Optuna begins one before it asks


def test_draws_under_a_budget_are_uniform_and_exact_where_few_points_keep_it():
    # Of 11^9 points 55 cost at most 2: draws that are thrown away would never find them.
    space = {f"x{i}": IntDistribution(0, 10) for i in range(9)}
    total = Budget(lambda params: sum(params.values()), upper=2)
    study = optuna.create_study(
        sampler=NastoolSampler("random", 0, search_space=space, budgets=[total], stop=True)
    )
    study.optimize(lambda t: sum(t.suggest_int(n, 0, 10) for n in space), n_trials=100)
    assert len(study.trials) == len(set(proposals(study))) == 55


def test_budgets_without_names_of_their_own_are_all_kept():
    """The second took the place of the first, whose bound then held for it, too."""
    space = {"a": IntDistribution(0, 7), "b": IntDistribution(0, 7)}
    budgets = [Budget(lambda p: p["a"], upper=2), Budget(lambda p: p["b"], upper=np.int64(5))]
    study = optuna.create_study(
        sampler=NastoolSampler("random", 0, search_space=space, budgets=budgets, stop=True)
    )
    study.optimize(lambda t: sum(t.suggest_int(n, 0, 7) for n in space), n_trials=100)
    found = sorted(tuple(trial.params.values()) for trial in study.trials)
    assert found == [(a, b) for a in range(3) for b in range(6)]


def test_what_is_no_budget_is_told_at_once():
    with pytest.raises(InvalidInputError, match="size: the cost must be a function of"):
        Budget("x", upper=1, name="size")
    with pytest.raises(InvalidInputError, match="budget: a bound must be a number, got '3M'"):
        Budget(sum, upper="3M")
    with pytest.raises(InvalidInputError, match="budgets must come with the search_space"):
        NastoolSampler("random", budgets=[budget_of(60)])
    apart = budget_of(60, lambda params: params["width"] * (params["rate"] + 1) * params["depth"])
    with pytest.raises(InvalidInputError, match="size: the cost must be a sum of terms"):
        NastoolSampler("random", search_space=ORDERED, budgets=[apart])
    with pytest.raises(InfeasibleError, match="size<=3 cannot be met"):
        NastoolSampler("random", search_space=ORDERED, budgets=[budget_of(3)])
    two = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    with pytest.raises(InvalidInputError, match="give floats a step"):
        NastoolSampler("random", search_space=two, grid=999, budgets=[Budget(max, 1.0)])


def test_no_point_is_proposed_twice_while_trials_run_side_by_side():
    space = {"x": IntDistribution(0, 299)}
    study = optuna.create_study(sampler=NastoolSampler("random", 0, search_space=space))
    others = [NastoolSampler("random", seed, search_space=space) for seed in (0, 1, 2)]
    trials = []
    for k in range(300):
        study.sampler = others[k % 3]
        trials.append(study.ask(space))
        if len(trials) > 4:
            study.tell(trials.pop(k % 5), 0.0)
    assert len({trial.params["x"] for trial in study.trials}) == 300


@pytest.mark.parametrize("limit", [1, 20, 100, 128])
def test_batches_follow_one_another_without_a_gap(limit):
    number = 0
    while number < 20_000:
        start, size = batch_of(number, limit)
        assert start == number
        assert 1 <= size <= limit
        assert {batch_of(k, limit) for k in range(start, start + size)} == {(start, size)}
        number += size
    assert size == limit


WAYS = [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy, copy.copy]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_copied_sampler_goes_on_the_same(strategy, way):
    def params(study):
        return [trial.params for trial in study.trials]

    directions = ("minimize", "minimize") if strategy != "evolution" else ("minimize",)
    objective = both if strategy != "evolution" else loss
    whole = optimize(NastoolSampler(strategy, seed=3), objective, 24, directions)
    first = optimize(NastoolSampler(strategy, seed=3), objective, 13, directions)
    kept = way(first.sampler)
    first.optimize(objective, n_trials=11)  # the copy shares nothing with its original
    assert params(first) == params(whole)
    again = optuna.create_study(study_name=first.study_name, directions=directions, sampler=kept)
    again.add_trials(first.trials[:13])
    again.optimize(objective, n_trials=11)
    assert params(again) == params(whole)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_study_is_copied_with_its_sampler(way):
    study = optimize(NastoolSampler("evolution", seed=3, search_space=SPACE), n=8)
    other = way(study)
    other.optimize(loss, n_trials=4, n_jobs=2)
    assert (len(study.trials), len(other.trials)) == (8, 12)


def test_a_fresh_sampler_is_copied_with_its_settings():
    made = NastoolSampler("evolution", seed=3, settings={"population_size": 5}, search_space=SPACE)
    copied = pickle.loads(pickle.dumps(made))
    assert [t.params for t in optimize(copied, n=12).trials] == [
        t.params for t in optimize(made, n=12).trials
    ]
