"""The two packages for OptunaHub, loaded as its registry loads them, without a network."""

import re
from pathlib import Path

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")
optunahub = pytest.importorskip("optunahub")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

from nastool.pareto import dominates, non_dominated  # noqa: E402

ROOT = Path(__file__).parents[3] / "integrations" / "optunahub"
PACKAGES = ("samplers/nastool", "benchmarks/supershaper")


def load(package):
    return optunahub.load_local_module(package, registry_root=str(ROOT))


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def benchmark():
    return load("benchmarks/supershaper")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_laid_out_as_the_registry_wants(package):
    folder = ROOT / package
    assert {"README.md", "LICENSE", "__init__.py", "example.py"} <= {
        path.name for path in folder.iterdir()
    }
    _, front, text = folder.joinpath("README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert set(fields) == {
        "author", "title", "description", "tags", "optuna_versions", "license",
    }  # fmt: skip
    kind = package.partition("/")[0].removesuffix("s")
    assert kind in fields["tags"].strip("[]").split(", ")
    assert fields["license"] == "Apache License 2.0"
    for heading in ("## Abstract", "## APIs", "## Installation", "## Example"):
        assert heading in text
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert (
        f'load_module("{package}")' in example[1]
        or f'load_module(package="{package}")' in (example[1])
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_of_the_readmes_run(package, monkeypatch, capsys):
    monkeypatch.setattr(optunahub, "load_module", load)
    text = ROOT.joinpath(package, "README.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    said = capsys.readouterr().out
    exec(ROOT.joinpath(package, "example.py").read_text(encoding="utf-8"), {})
    assert capsys.readouterr().out
    assert said.startswith("42 ") if package.startswith("samplers") else "true hyperv" in said


def test_the_sampler_stops_when_everything_within_a_budget_was_tried():
    module = load("samplers/nastool")
    space = {f"x{i}": optuna.distributions.IntDistribution(0, 5) for i in range(4)}
    total = module.Budget(lambda params: sum(params.values()), upper=3)
    study = optuna.create_study(
        sampler=module.NastoolSampler(seed=0, search_space=space, budgets=[total])
    )
    study.optimize(lambda t: -sum(t.suggest_int(name, 0, 5) for name in space), n_trials=500)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 35  # C(7, 3)
    assert len(study.trials) == 35
    assert study.best_value == -3


def test_the_sampler_goes_on_where_it_is_told_to():
    sampler = load("samplers/nastool").NastoolSampler("random", 0, stop=False)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_int("x", 0, 3), n_trials=9)
    assert len(study.trials) == 9


@pytest.mark.parametrize("settings", [{}, {"kind": "table"}, {"max_params": 60e6}])
def test_nothing_dominates_the_front_of_the_benchmark(benchmark, settings):
    problem = benchmark.Problem(**settings)
    front, bound = problem.front, settings.get("max_params", np.inf)
    assert non_dominated(front).all()
    assert (front[:, 1] <= bound).all()
    assert problem.hypervolume(problem.front_genotypes) == pytest.approx(1)
    rng = np.random.default_rng(0)
    near = np.clip(
        np.repeat(problem.front_genotypes, 5, axis=0)
        + rng.integers(-1, 2, size=(5 * len(front), 12)),
        0,
        6,
    )
    values = problem.evaluate_batch(near)
    values = values[values[:, 1] <= bound]
    for member in front:
        assert not dominates(values, member).any()
    assert 0 < problem.hypervolume(near[:10]) < problem.hypervolume(near) <= 1


def test_the_front_of_the_surrogate_is_proven_of_the_surrogate_that_ships(benchmark):
    problem = benchmark.Problem()
    assert len(problem.front) == 259
    assert problem.certificate.startswith("proven: all 259 points of the front; 13,841,287,201")


def test_the_table_holds_what_was_measured(benchmark):
    problem = benchmark.Problem("table")
    shapes, values = problem._table
    assert len(shapes) == 4655
    np.testing.assert_array_equal(problem.evaluate_batch(shapes[:50]), values[:50])
    others = np.random.default_rng(0).integers(0, 7, size=(50, 12))
    assert set(problem.evaluate_batch(others)[:, 0]) <= set(values[:, 0])


def test_noise_scatters_as_new_measurements_do_and_is_a_shapes_own(benchmark):
    shapes = np.random.default_rng(0).integers(0, 7, size=(400, 12))
    plain, noisy = benchmark.Problem(), benchmark.Problem(noise=True, seed=3)
    true, first, other = (
        problem.evaluate_batch(shapes)
        for problem in (plain, noisy, benchmark.Problem(noise=True, seed=4))
    )
    np.testing.assert_array_equal(noisy.evaluate_batch(shapes[::-1])[::-1], first)
    np.testing.assert_array_equal(first[:, 1], true[:, 1])
    assert not np.any(first[:, 0] == other[:, 0])
    inside = np.abs(first[:, 0] - true[:, 0]) <= plain._surrogate.half_widths(true[:, 0])
    assert 0.85 < inside.mean() < 0.95
    assert noisy.hypervolume(shapes) == plain.hypervolume(shapes)


def test_any_sampler_searches_the_benchmark(benchmark):
    problem = benchmark.Problem(max_params=60e6)
    study = optuna.create_study(
        sampler=optuna.samplers.NSGAIISampler(seed=0, population_size=10),
        directions=problem.directions,
    )
    if not hasattr(optuna.trial.Trial, "set_constraint"):
        pytest.skip("constraints of benchmarks need Optuna 5")
    study.optimize(problem, n_trials=20)
    for trial in study.trials:
        assert trial.constraints["params"] == trial.values[1] - 60e6


def test_what_is_no_problem_is_refused(benchmark):
    with pytest.raises(ValueError, match="kind must be surrogate or table, got 'tabular'"):
        benchmark.Problem("tabular")
    with pytest.raises(ValueError, match="noise is for the surrogate"):
        benchmark.Problem("table", noise=True)
    with pytest.raises(ValueError, match="max_params must be at least 33,"):
        benchmark.Problem(max_params=1e6)
