import json
import sqlite3
import time
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError, NastoolError
from nastool.evaluations import Evaluations
from nastool.objective import Direction
from nastool.problem import Problem
from nastool.store import open_store
from nastool.strategies.evolution import Evolution
from nastool.strategies.random import RandomSearch
from nastool.study import Study, load_result
from nastool.testing import Formula, Widths, example_problems

optuna = pytest.importorskip("optuna")
from nastool.integrations import optuna_export  # noqa: E402
from nastool.integrations.optuna import export_study  # noqa: E402

COMPLETE, FAIL = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def memory():
    """A relational storage without a disk to wait for."""
    return optuna.storages.RDBStorage("sqlite:///:memory:")


def run(kind, n=30, strategy=RandomSearch):
    return Study(example_problems()[kind], strategy, name="mine").run(n, batch_size=10)


def fronts_agree(study, result):
    ours = {
        tuple(row) for row in (result.front().objectives * result.problem.signs).round(9).tolist()
    }
    trials = study.best_trials
    assert {tuple(np.round(trial.values, 9)) for trial in trials} == ours


@pytest.mark.parametrize("kind", ["pair", "pair-hard", "pair-soft", "triple-failing"])
def test_an_export_has_the_same_front(kind, tmp_path):
    result = run(kind)
    export_study(result, f"sqlite:///{tmp_path}/optuna.db")
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [d.name for d in study.directions] == [
        o.direction.name for o in result.problem.objectives
    ]
    assert study.metric_names == [o.name for o in result.problem.objectives]
    assert len(study.trials) == 30
    fronts_agree(study, result)


def test_every_trial_is_its_evaluation(memory):
    result, began = run("pair-soft"), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    study = export_study(result, memory, created=began)
    space = result.problem.space
    names = [gene.name for gene in space.genes]
    values = result.values()
    assert [trial.number for trial in study.trials] == list(range(30))
    for row, trial in enumerate(study.trials):
        architecture = space.decode(result.evaluations.genotypes[row : row + 1])[0]
        assert tuple(trial.params[name] for name in names) == architecture
        assert trial.values == [values["loss"][row], values["score"][row]]
        assert trial.user_attrs["sum"] == values["sum"][row]
        assert trial.user_attrs["shape"] == "-".join(map(str, architecture))
        end = trial.datetime_complete.astimezone() - began
        assert end.total_seconds() == pytest.approx(result.elapsed[row], abs=1e-5)
        assert trial.datetime_start <= trial.datetime_complete
        constraints = [v for k, v in trial.system_attrs.items() if k.startswith("constraints")]
        assert np.ravel(constraints) == pytest.approx(result.evaluations.violations[row])


def test_failed_evaluations_are_failed_trials(memory):
    result = run("failing", 40)
    study = export_study(result, memory)
    failed = np.isnan(result.metrics).any(axis=1)
    assert failed.any()
    states = [trial.state for trial in study.trials]
    assert states == [FAIL if bad else COMPLETE for bad in failed]
    best = result.best().objectives[0, 0] * result.problem.signs[0]
    assert study.best_value == pytest.approx(best)


@pytest.mark.parametrize("kind", ["pair-hard", "triple-failing", "single-mixed"])
def test_bulk_and_public_interface_write_the_same(kind, tmp_path, monkeypatch):
    result = run(kind, 12)
    began = datetime(2026, 7, 1, 12, tzinfo=UTC)
    fast = export_study(result, f"sqlite:///{tmp_path}/fast.db", created=began)
    assert optuna_export._tables(optuna_export._open(f"sqlite:///{tmp_path}/fast.db")) is not None
    monkeypatch.setattr(optuna_export, "_tables", lambda storage: None)
    slow = export_study(result, f"sqlite:///{tmp_path}/slow.db", created=began)
    assert fast.trials == slow.trials
    assert fast.user_attrs == slow.user_attrs


def test_infinite_values_survive(memory):
    result = run("pair", 5)
    metrics = result.metrics.copy()
    metrics[2, 0], metrics[3, 0] = np.inf, -np.inf
    evaluations = Evaluations(
        result.evaluations.genotypes,
        metrics * result.problem.signs,
        result.evaluations.violations,
    )
    edited = type(result)(
        result.problem, evaluations, metrics, result.elapsed, 1.0, "budget", name="mine"
    )
    study = export_study(edited, memory)
    assert [trial.values for trial in study.trials] == metrics.tolist()


@pytest.mark.parametrize("make", [
    lambda folder: optuna.storages.InMemoryStorage(),
    lambda folder: f"{folder}/journal.log",
])  # fmt: skip
def test_other_storages(make, tmp_path):
    result = run("pair-hard", 12)
    study = export_study(result, make(tmp_path), "theirs")
    assert study.study_name == "theirs"
    fronts_agree(study, result)


def test_exporting_again_adds_what_is_new(memory, monkeypatch, tmp_path):
    monkeypatch.setattr(optuna_export, "_CHUNK", 7)
    seen = []
    problem = example_problems()["pair"]
    study = Study(problem, Evolution, f"sqlite:///{tmp_path}/ours.db", "s")
    export_study(study.run(25, 5), memory)
    theirs = export_study(study.run(40, 5), memory, progress=lambda done, total: seen.append(done))
    assert seen == [32, 39, 40]
    with open_store(f"sqlite:///{tmp_path}/ours.db") as store:
        result = load_result(store, "s", problem)
    assert [t.user_attrs["shape"] for t in theirs.trials] == result.columns()["shape"]
    with pytest.raises(InvalidInputError, match="at most the 25 evaluations"):
        export_study(result.first(25), memory)


@pytest.mark.parametrize("n", [40, 20])
def test_another_study_of_the_same_problem_is_not_mixed_in(memory, n):
    problem = example_problems()["pair"]
    first = Study(problem, RandomSearch, name="mine").run(30)
    before = export_study(first, memory, attributes={"seed": 0})
    other = Study(problem, RandomSearch, name="mine", seed=1).run(n)
    with pytest.raises(InvalidInputError, match="take another name"):
        export_study(other, memory, attributes={"seed": 1})
    after = optuna.load_study(study_name="mine", storage=memory)
    assert after.trials == before.trials
    assert after.user_attrs == before.user_attrs


def test_a_study_that_went_on_in_optuna_is_left_alone(memory):
    study = export_study(run("pair", 10), memory)
    study.optimize(lambda trial: (0.0, 0.0), n_trials=1)
    with pytest.raises(InvalidInputError, match="got trial 10 with None instead of"):
        export_study(run("pair", 20), memory)


def test_a_store_of_ours_is_refused_and_untouched(tmp_path):
    url = f"sqlite:///{tmp_path}/ours.db"
    result = Study(example_problems()["pair"], RandomSearch, url, "mine").run(10)
    with pytest.raises(InvalidInputError, match="must be a database of its own"):
        export_study(result, url)
    with closing(sqlite3.connect(tmp_path / "ours.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not any(name.startswith(("trial", "alembic")) for name in tables)


def test_a_storage_that_breaks_is_one_clear_line(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE studies (id INTEGER PRIMARY KEY)")
    with pytest.raises(NastoolError, match=r"storage of Optuna cannot be used: .*studies") as error:
        export_study(run("pair", 3), f"sqlite:///{tmp_path}/other.db")
    assert "\n" not in str(error.value)


class Stop:
    """Progress that ends an export after a number of reports."""

    def __init__(self, reports):
        self.left = reports

    def __call__(self, done, total):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("target", ["sqlite:///{}/optuna.db", "{}/journal.log"])
def test_a_failed_export_leaves_no_half_study(target, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_export, "_CHUNK", 10)
    result, storage = run("pair", 35), target.format(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        export_study(result, storage, progress=Stop(2))
    assert optuna.get_all_study_names(optuna_export._open(storage)) == []
    assert len(export_study(result, storage).trials) == 35


def test_a_failed_addition_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_export, "_CHUNK", 10)
    result, storage = run("pair", 35), f"sqlite:///{tmp_path}/optuna.db"
    before = export_study(result.first(5), storage).trials
    with pytest.raises(KeyboardInterrupt):
        export_study(result, storage, progress=Stop(2))
    assert optuna.load_study(study_name="mine", storage=storage).trials == before
    assert export_study(result, storage).trials[:5] == before


@pytest.mark.parametrize("bulk", [True, False])
def test_the_front_or_the_last_evaluations_alone(bulk, memory, monkeypatch):
    if not bulk:
        monkeypatch.setattr(optuna_export, "_tables", lambda storage: None)
    result = run("pair-hard", 30)
    shapes = result.columns()["shape"]
    last = export_study(result, memory, "last", last=7)
    assert [trial.user_attrs["shape"] for trial in last.trials] == shapes[-7:]
    assert [trial.values for trial in last.trials] == [
        pytest.approx(row) for row in result.metrics[-7:, :2].tolist()
    ]
    front = export_study(result, memory, "front", front=True)
    on_front = set(result.columns(result.front().genotypes)["shape"])
    assert [trial.user_attrs["shape"] for trial in front.trials] == [
        shape for shape in shapes if shape in on_front
    ]
    fronts_agree(front, result)
    assert len(export_study(result, memory, "more", last=100).trials) == 30


@pytest.mark.parametrize("part", [{"front": True, "last": 3}, {"last": 0}])
def test_a_part_is_one_of_two(part, memory):
    with pytest.raises(InvalidInputError, match=r"must be exported|are exported"):
        export_study(run("pair", 5), memory, **part)
    assert optuna.get_all_study_names(memory) == []


def test_another_programs_file_gets_no_tables(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE places (id INTEGER PRIMARY KEY)")
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(NastoolError, match=r"another program \(places\)"):
        export_study(run("pair", 3), f"sqlite:///{tmp_path}/other.db")
    assert (tmp_path / "other.db").read_bytes() == before


@pytest.mark.parametrize("storage", [
    "mysql+nothing://nas:s3cretPW@h/x",
    "postgresql://nas:s3cretPW@127.0.0.1:1/x",
    "postgresql://nas:s3cr@etPW@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?user=nas&password=s3cretPW",
    "nas:s3cretPW@h/x",
])  # fmt: skip
def test_a_password_is_not_repeated(storage):
    with pytest.raises(InvalidInputError) as error:
        export_study(run("pair", 3), storage)
    assert "etPW" not in "".join(traceback.format_exception(error.value))


def test_provenance_is_kept(memory):
    study = export_study(run("pair-hard"), memory, attributes={"seed": 3})
    assert study.user_attrs["provenance of score"] == "computed (closed form)"
    assert study.user_attrs["constraints"] == ["params<=90", "sum>=5"]
    assert study.user_attrs["seed"] == 3
    json.dumps(study.user_attrs)


def test_foreign_studies_are_left_alone(memory):
    optuna.create_study(study_name="mine", storage=memory, directions=["minimize", "minimize"])
    with pytest.raises(InvalidInputError, match="same problem"):
        export_study(run("pair"), memory)
    assert optuna.load_study(study_name="mine", storage=memory).trials == []


@pytest.mark.parametrize(
    "storage", ["nosuch://x", "sqlite:////nosuch/folder/o.db", "/nosuch/o.log"]
)
def test_unusable_storages_are_one_clear_line(storage):
    with pytest.raises(InvalidInputError, match="a storage of Optuna must be") as error:
        export_study(run("pair", 3), storage)
    assert "\n" not in str(error.value)


def test_a_study_that_found_nothing_yet_is_a_study_of_no_trials(tmp_path):
    class Broken(RandomSearch):
        def ask(self, n):
            raise RuntimeError

    url, problem = f"sqlite:///{tmp_path}/optuna.db", example_problems()["pair"]
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        with pytest.raises(NastoolError, match="strategy Broken failed"):
            Study(problem, Broken, store, "mine").run(5)
        export_study(load_result(store, "mine", problem), url, "none")
    assert optuna.load_study(study_name="none", storage=url).trials == []
    export_study(run("pair", 10), url, "none")
    assert len(optuna.load_study(study_name="none", storage=url).trials) == 10


def test_a_name_is_needed():
    result = Study(example_problems()["pair"], RandomSearch).run(3)
    with pytest.raises(InvalidInputError, match="must have a name"):
        export_study(result, optuna.storages.InMemoryStorage())


def test_evenly_spaced_ordered_genes_are_integers(tmp_path):
    problem = example_problems()["pair-soft"]
    distributions = {g.name: optuna_export._distribution(g) for g in problem.space.genes}
    assert distributions["kernel"] == optuna.distributions.IntDistribution(1, 7, step=2)
    assert distributions["operator"].choices == ("conv", "attention", "skip")
    assert distributions["stem"].choices == ("plain",)
    widths = example_problems()["pair"].space.genes[0]
    assert optuna_export._distribution(widths).choices == (1, 2, 3, 5, 8)
    assert isinstance(problem, Problem)


def test_signs_and_slack_are_those_of_the_problem(memory):
    space = Widths(2, (1, 2, 3))
    score = Formula("score", lambda g: 10.0 + g[:, 0], Direction.MAXIMIZE, cheap=False)
    loss = Formula("loss", lambda g: 5.0 - g[:, 1])
    slow = Formula("sum", lambda g: g.sum(axis=1) * 1.0, cheap=False)
    bounds = (Constraint("sum", "<=", 2), Constraint("score", ">=", 11))
    problem = Problem(space, (score, loss), bounds, metrics=(slow,))
    study = export_study(Study(problem, RandomSearch, name="a").run(9), memory)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(study.trials) == 9
    for trial in study.trials:
        first, second = (space.genes[0].choices.index(trial.params[f"layer_{i}"]) for i in (0, 1))
        assert trial.values == [10.0 + first, 5.0 - second]
        (violations,) = (v for k, v in trial.system_attrs.items() if k.startswith("constraints"))
        # Below 0 is how much of the bound is left.
        assert violations == pytest.approx([(first + second - 2) / 2, (1 - first) / 11])
    best = {tuple(trial.values) for trial in study.best_trials}
    assert best == {(12.0, 5.0), (11.0, 4.0)}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone is fixed there")
def test_times_are_local_whatever_the_zone_of_the_beginning(memory, monkeypatch):
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    try:
        began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3)))
        local = began.astimezone().replace(tzinfo=None)
        trials = export_study(run("single", 10), memory, created=began).trials
    finally:
        monkeypatch.undo()
        time.tzset()
    assert local.hour == 11
    # Three hours behind UTC, and five and a half hours before it.
    assert trials[0].datetime_start == local
    assert local <= trials[-1].datetime_complete < local + timedelta(minutes=1)


def test_a_storage_of_another_kind_is_one_line():
    with pytest.raises(InvalidInputError, match=r"a storage of Optuna must be a URL .*, got 3$"):
        export_study(run("pair"), 3)
