import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import chisquare

from nastool.cli.search import search
from nastool.constraint import Constraint
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.objective import Direction
from nastool.predicted import PredictedObjective
from nastool.predictors import Card, Scores, load_predictor, save_predictor
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.linear import linear, pairwise_additive
from nastool.problem import Problem
from nastool.space import Gene, SearchSpace
from nastool.testing import Mixed, ObjectiveConformance, Widths
from nastool_objectives import perplexity, predicted
from nastool_supershaper.space import create

pytest.importorskip("xgboost")


class Scaled(SearchSpace):
    """As many choices as `Widths`, ten times as wide."""

    name = "scaled"
    genes = tuple(Gene(f"layer_{i}", (10, 20, 30, 50, 80), ordered=True) for i in range(4))
    references: ClassVar[dict[str, Path]] = {}

    def reference(self, metric):
        return self.references.get(metric)


def fitted(folder, space, costs=(), predictor=None):
    """Fit a few trees, or what is given, to a known function of the genotypes."""
    rng = np.random.default_rng(0)
    genotypes = space.sample(400, rng)
    columns = [space.features(genotypes)]
    columns += [space.costs[name].evaluate(genotypes)[:, None] for name in costs]
    targets = 30 - genotypes @ np.arange(1.0, len(space.genes) + 1) + rng.normal(0, 0.1, 400)
    predictor = predictor or BoostedTrees(trees=20)
    predictor.fit(np.concatenate(columns, axis=1), targets, genes=len(space.genes))
    names = tuple(gene.name for gene in space.genes)
    card = Card(
        metric="perplexity",
        unit="",
        kind=predictor.kind,
        label=predictor.label,
        space=space.name,
        fingerprint=space.fingerprint,
        genes=names,
        choices=tuple(gene.choices for gene in space.genes),
        features=(*names, *costs),
        shapes=400,
        scores=Scores(r2=0.97, spearman=0.98, kendall=0.9, rmse=0.5, n=100),
    )
    save_predictor(folder, predictor, card)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("predictors") / "widths", Widths())


@pytest.fixture(scope="module")
def cost_folder(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("predictors") / "costs", Widths(), ("params",))


class TestPredicted(ObjectiveConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def space(self):
        return Widths()

    def make(self):
        return PredictedObjective(self.space(), self.folder)


class TestPredictedWithCosts(TestPredicted):
    @pytest.fixture(autouse=True)
    def _folder(self, cost_folder):
        self.folder = cost_folder


class TestPredictedByAChain(TestPredicted):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = fitted(tmp_path / "chain", Widths(), ("params",), linear())


class TestPredictedForUnorderedChoices(TestPredicted):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = fitted(tmp_path / "mixed", Mixed())

    def space(self):
        return Mixed()


@pytest.mark.parametrize("which", ["folder", "cost_folder"])
def test_values_are_the_predictors(which, request):
    folder, space = request.getfixturevalue(which), Widths()
    predictor, card = load_predictor(folder)
    genotypes = space.sample(300, np.random.default_rng(1))
    columns = [space.features(genotypes)]
    columns += [space.costs[name].evaluate(genotypes)[:, None] for name in card.costs]
    expected = predictor.predict(np.concatenate(columns, axis=1)).mean
    assert np.array_equal(PredictedObjective(space, folder).evaluate(genotypes), expected)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize(
    ("predictor", "costs"),
    [(linear, ()), (linear, ("params",)), (partial(AdditiveScores, is_log=False), ())],
)
def test_bounds_on_what_adds_up_are_counted_and_drawn_within(tmp_path, predictor, costs):
    space = Widths()
    objective = PredictedObjective(space, fitted(tmp_path / "chain", space, costs, predictor()))
    everything = np.indices(space.cardinalities).reshape(4, -1).T
    predicted = objective.predictor.predict(objective.features(everything)).mean
    values = objective.evaluate(everything)
    np.testing.assert_allclose(values, predicted, rtol=0, atol=1e-10 * np.ptp(values))
    # Five of 625: two thousand rounds of drawing would find them, and not that they are all.
    bound = float(np.sort(values)[4])
    problem = Problem(space, [objective], [Constraint("perplexity", "<=", bound)])
    drawn = problem.sample(4000, np.random.default_rng(0))
    found, times = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(row) for row in found} == {tuple(row) for row in everything[values <= bound]}
    assert chisquare(times).pvalue > 1e-3
    below = float(values.min()) - 1e-6
    with pytest.raises(InfeasibleError, match="cannot be met: the smallest architecture of widths"):
        Problem(space, [objective], [Constraint("perplexity", "<=", below)])


def test_what_does_not_add_up_is_no_chain(folder, tmp_path):
    assert PredictedObjective(Widths(), folder).chain() is None
    pairs = fitted(tmp_path / "pairs", Widths(), predictor=pairwise_additive())
    assert PredictedObjective(Widths(), pairs).chain() is None


def test_the_grid_form_is_used(folder, monkeypatch):
    objective = PredictedObjective(Widths(), folder)
    monkeypatch.setattr(BoostedTrees, "predict", lambda *_: pytest.fail("walked the trees"))
    assert objective.evaluate(np.zeros((3, 4), dtype=np.int64)).shape == (3,)


def test_own_space_is_no_proxy(folder):
    provenance = PredictedObjective(Widths(), folder).provenance
    assert provenance.by == "XGBoost on 400 shapes of widths"
    assert "R2 0.97" in provenance.error
    assert provenance.proxy == ""


def test_another_space_is_a_proxy_by_genotype(folder):
    own, other = PredictedObjective(Widths(), folder), PredictedObjective(Scaled(), folder)
    genotypes = Widths().sample(50, np.random.default_rng(2))
    assert np.array_equal(own.evaluate(genotypes), other.evaluate(genotypes))
    assert other.provenance.proxy == (
        "fitted on widths (4 x 8), used by genotype for scaled (4 x 80)"
    )
    assert own.fingerprint != other.fingerprint


def test_what_another_space_taught_is_refitted_again_and_again(folder, tmp_path):
    space = Scaled()
    shutil.copytree(folder, tmp_path / "taught")
    predictor, card = load_predictor(folder)
    save_predictor(tmp_path / "taught", predictor, replace(card, direction=Direction.MAXIMIZE))
    objective = PredictedObjective(space, tmp_path / "taught")
    shapes = space.sample(30, np.random.default_rng(3))
    truth = 5 + 2 * objective.evaluate(shapes)
    for number in range(2):
        objective = objective.refitted(shapes, truth, tmp_path / str(number))
        assert objective.direction is Direction.MAXIMIZE
        assert objective.provenance.proxy == ""
        np.testing.assert_allclose(objective.evaluate(shapes), truth, rtol=0.02)


def test_what_a_predictor_learned_is_known_with_its_table_and_space(folder, tmp_path):
    space = Widths(layers=4)
    shapes = np.unique(space.sample(40, np.random.default_rng(0)), axis=0)
    objective = PredictedObjective(space, folder)
    assert not objective.learned(shapes).any()  # Its table is not known.
    once = objective.refitted(shapes[:10], np.arange(10.0), tmp_path / "a")
    again = once.refitted(shapes[10:14], np.arange(4.0), tmp_path / "b")
    assert again.learned(shapes).tolist() == [True] * 14 + [False] * (len(shapes) - 14)
    assert not PredictedObjective(Scaled(), tmp_path / "b").learned(shapes).any()


def test_a_card_without_fingerprint_is_compared_by_its_choices(folder, tmp_path):
    predictor, card = load_predictor(folder)
    content = card.to_json().replace(card.fingerprint, "")
    save_predictor(tmp_path / "anonymous", predictor, Card.from_json(content))
    assert not PredictedObjective(Widths(), tmp_path / "anonymous").is_proxy
    assert PredictedObjective(Scaled(), tmp_path / "anonymous").is_proxy


def test_spaces_with_other_choices_are_rejected(folder):
    message = "widths must have 3 genes of 5 choices, got one of widths with 4 genes of 5 choices"
    with pytest.raises(InvalidInputError, match=message):
        PredictedObjective(Widths(layers=3), folder)
    with pytest.raises(InvalidInputError, match="5 genes of 3/4/6/1/2 choices"):
        PredictedObjective(Mixed(), folder)


def test_costs_are_not_carried_to_another_space(cost_folder):
    with pytest.raises(InvalidInputError, match="uses params must be fitted on scaled"):
        PredictedObjective(Scaled(), cost_folder)


def test_another_model_has_another_fingerprint(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    before = PredictedObjective(Widths(), tmp_path / "copy").fingerprint
    assert before == PredictedObjective(Widths(), folder).fingerprint
    predictor, card = load_predictor(folder)
    rng = np.random.default_rng(3)
    predictor.fit(rng.random((50, 4)), rng.random(50))
    save_predictor(tmp_path / "copy", predictor, card)
    assert PredictedObjective(Widths(), tmp_path / "copy").fingerprint != before


def test_perplexity_of_a_folder_is_named_as_typed(folder):
    assert perplexity.create(Widths(), str(folder)).name == f"perplexity[{folder}]"
    assert predicted.create(Widths(), str(folder)).name == f"predicted[{folder}]"


def test_perplexity_comes_from_what_ships(folder, monkeypatch):
    monkeypatch.setattr(Scaled, "references", {"perplexity": folder})
    assert perplexity.create(Scaled()).name == "perplexity"
    assert perplexity.create(Scaled()).is_proxy


def test_predictions_are_held_against_what_is_published(folder, monkeypatch):
    space = Widths()
    genotypes = space.sample(30, np.random.default_rng(3))
    predicted_values = PredictedObjective(space, folder).evaluate(genotypes)
    for sign, contradicts in ((1, False), (-1, True)):
        published = {"a paper": (genotypes, sign * predicted_values)}
        monkeypatch.setattr(
            Widths,
            "published",
            lambda self, metric, p=published: p if metric == "perplexity" else {},
        )
        source = PredictedObjective(space, folder).provenance
        (agreement,) = source.agreements
        assert agreement.spearman == pytest.approx(sign)
        assert (agreement.source, agreement.n) == ("a paper", 30)
        assert bool(source.contradiction) is contradicts


def test_perplexity_without_a_predictor_says_how_to_make_one():
    with pytest.raises(InvalidInputError, match=r"no perplexity predictor ships.*nastool fit"):
        perplexity.create(Widths())


def test_predicted_needs_a_folder(tmp_path):
    with pytest.raises(InvalidInputError, match="needs the folder"):
        predicted.create(Widths())
    with pytest.raises(InvalidInputError, match=r"no card\.json"):
        predicted.create(Widths(), str(tmp_path))


def test_a_search_says_what_its_numbers_stand_for(tmp_path):
    folder = fitted(tmp_path / "small", create("minilm-6"))
    arguments = ["--space", "supershaper:layers=6", "--strategy", "templates"]
    arguments += ["--objective", f"predicted[{folder}]", "--storage", "none"]
    result = CliRunner().invoke(search, arguments, env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    assert f"  predicted[{folder}]" in result.output.splitlines()[2]
    assert "PROXY: fitted on minilm-6 (6 x 384), used by genotype for" in result.output
