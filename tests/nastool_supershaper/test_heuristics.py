import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.objective import Direction
from nastool.problem import CostObjective, Problem
from nastool.testing import Formula, StrategyConformance, Widths
from nastool_supershaper.families import (
    TEMPLATES,
    cigar_family,
    published_shapes,
    scaled_family,
    templates,
)
from nastool_supershaper.heuristics import (
    CigarStrategy,
    DerivedStrategy,
    TemplatesStrategy,
    derive_family,
)
from nastool_supershaper.space import SuperShaperSpace, create

TWELVE = "layers=12,widths=60/120/180/240/276/300/384,ffn=1536,vocabulary=30522"
SPACES = ["supershaper", "minilm-6", TWELVE, "layers=1", "layers=2,widths=120", "layers=24"]


def rows(space, genotypes):
    return {space.format(genotype) for genotype in genotypes}


def params_of(space, genotypes):
    return space.costs["params"].evaluate(genotypes)


def test_templates_are_the_published_shapes():
    space = create()
    for name, shape in zip(TEMPLATES, space.decode(templates(space)), strict=True):
        assert shape == published_shapes()[name].widths


def test_published_shapes_are_all_there():
    sources = [shape.source for shape in published_shapes().values()]
    assert (sources.count("table 6"), sources.count("figure 6")) == (10, 9)
    assert published_shapes()["evolution_1"].perplexity == 6.86
    assert published_shapes()["cigar_61"].perplexity is None


@pytest.mark.parametrize("argument", SPACES)
def test_templates_keep_their_form_in_any_space(argument):
    space = create(argument)
    made = dict(zip(TEMPLATES, space.validate(templates(space)), strict=True))
    assert np.all(np.diff(made["lower_triangle"]) >= 0)
    assert np.all(np.diff(made["upper_triangle"]) <= 0)
    if space.layers > 1:
        assert np.array_equal(made["lower_triangle"], made["upper_triangle"][::-1])
        assert np.array_equal(made["bottle"], made["inverted_bottle"][::-1])
    assert len(np.unique(made["rectangle"])) == 1


# Which published member follows from the reference at 61M, and where the others differ.
@pytest.mark.parametrize(
    ("member", "layers"),
    [
        ("37", []),
        ("42", []),
        ("47", [4]),
        ("56", [9, 10]),
        ("59", [9, 10]),
        ("61", []),
        ("70", []),
        ("87", []),
        ("91", []),
    ],
)
def test_cigar_family_against_the_published_members(member, layers):
    space = create()
    published = np.array(published_shapes()[f"cigar_{member}"].widths)
    family = np.array(space.decode(cigar_family(space)))
    different = family != published
    closest = different[different.sum(axis=1) == different.sum(axis=1).min()]
    assert layers in [(np.flatnonzero(row) + 1).tolist() for row in closest]


@pytest.mark.parametrize("member", ["37", "42", "61", "70", "87", "91"])
def test_cigar_at_a_published_size_is_the_published_member(member):
    space, shape = create(), published_shapes()[f"cigar_{member}"]
    count = params_of(space, space.encode([shape.widths]))[0]
    family = cigar_family(space)
    nearest = np.abs(params_of(space, family) - count).argmin()
    assert space.decode(family[[nearest]]) == [shape.widths]


@pytest.mark.parametrize("argument", SPACES)
def test_cigar_family_grows_from_the_smallest_shape_to_the_largest(argument):
    space = create(argument)
    family = space.validate(cigar_family(space))
    assert np.all(np.diff(params_of(space, family)) > 0)
    assert np.all(np.diff(family, axis=0) >= 0)
    assert np.all(family[0] == 0)
    assert np.all(family[-1] == len(space.widths) - 1)


def test_scaling_rounds_down_and_up_as_told():
    space = SuperShaperSpace(layers=2, widths=(100, 200, 300), heads=10)
    family = scaled_family(space, np.array([1, 1]), np.array([True, False]))
    # 200 scaled: up to 100 both are 100; above it the second layer rounds up first.
    assert rows(space, family) == {
        "100-100", "100-200", "200-200", "200-300", "300-300",
    }  # fmt: skip


class Additive:
    """A quality that is a sum of what each layer's width is worth."""

    def __init__(self, space, weights):
        self.weights = np.asarray(weights, dtype=float)
        self.widths = np.array(space.widths) / space.hidden

    def __call__(self, genotypes):
        return -(np.sqrt(self.widths[genotypes]) * self.weights).sum(axis=1)


def test_derived_family_finds_what_matters():
    space = create(TWELVE)
    weights = np.array([4, 1, 1, 1, 1, 2, 2, 2, 2, 3, 5, 9])
    family = derive_family(space, Formula("loss", Additive(space, weights)))
    np.testing.assert_allclose(family.importances, weights / weights.sum(), atol=1e-9)
    assert set(np.flatnonzero(family.rounds_down)) == {1, 2, 3, 4}
    assert family.reference[11] == 6
    assert np.all(family.reference[1:5] < family.reference[5:11].min())


def test_derived_reference_has_the_size_of_the_cigars():
    space = create()
    rng = np.random.default_rng(2)
    family = derive_family(space, Formula("loss", Additive(space, rng.uniform(1, 3, 12))))
    size = params_of(space, family.reference[None])[0]
    assert abs(size - 61.14e6) < 4e6
    assert space.format(family.reference) in rows(space, family.genotypes)


def test_derived_family_maximises_when_more_is_better():
    space = create("minilm-6")
    weights = [1, 2, 3, 4, 5, 6]
    loss = Formula("loss", Additive(space, weights))
    accuracy = Formula("accuracy", lambda g: -Additive(space, weights)(g), Direction.MAXIMIZE)
    one, other = derive_family(space, loss), derive_family(space, accuracy)
    assert np.array_equal(one.genotypes, other.genotypes)


def test_an_objective_that_prefers_small_shapes_gets_the_smallest_reference():
    space = create("minilm-6")
    family = derive_family(space, CostObjective(space.costs["params"], space))
    assert np.all(family.reference == 0)


def test_explanation_names_layers_rule_and_sizes():
    space = create("minilm-6")
    family = derive_family(space, Formula("loss", Additive(space, [1, 2, 3, 4, 5, 6])))
    text = family.explain()
    assert "derived from loss: computed (closed form)" in text
    assert text.count(" down\n") == 2
    assert all(space.format(genotype) in text for genotype in family.genotypes)


def test_failures_of_the_objective_are_one_line():
    space = create("minilm-6")
    failing = Formula("loss", lambda g: np.full(len(g), np.nan))
    with pytest.raises(InvalidInputError, match="finite values of loss"):
        derive_family(space, failing)


def supershaper_problems():
    space = create("minilm-6")
    loss = Formula("loss", Additive(space, [1, 2, 3, 4, 5, 6]))
    return {
        "free": Problem(space, (loss,)),
        "hard": Problem(space, (loss,), (Constraint("params", "<=", 18e6),)),
        "nothing left": Problem(space, (loss,), (Constraint("params", "<=", 13.34e6),)),
    }


class FamilyConformance(StrategyConformance):
    @pytest.fixture(params=["free", "hard", "nothing left"])
    def problem(self, request):
        return supershaper_problems()[request.param]

    batch = 4

    def failing(self):
        return supershaper_problems()["free"]

    def easy(self):
        return {"free": supershaper_problems()["free"]}


class TestCigar(FamilyConformance):
    def make(self, problem, seed):
        return CigarStrategy(problem, seed)


class TestTemplates(FamilyConformance):
    def make(self, problem, seed):
        return TemplatesStrategy(problem, seed)


class TestDerived(FamilyConformance):
    def make(self, problem, seed):
        return DerivedStrategy(problem, seed)


def test_strategies_propose_each_admissible_member_once():
    problem = supershaper_problems()["hard"]
    family = cigar_family(problem.space)
    strategy = CigarStrategy(problem)
    asked = np.concatenate([strategy.ask(5) for _ in range(10)])
    assert np.array_equal(asked, family[problem.admissible(family)])
    assert 0 < len(asked) < len(family)


def test_other_spaces_are_rejected():
    space = Widths()
    problem = Problem(space, (CostObjective(space.costs["params"], space),))
    with pytest.raises(InvalidInputError, match="needs a supershaper space, got 'widths'"):
        CigarStrategy(problem)


def test_spaces_offer_their_families_by_name():
    assert set(create().heuristics) == {"cigar", "templates", "published", "published_cigar"}
    assert set(create("minilm-6").heuristics) == {"cigar", "templates"}
    transferred = create(TWELVE).heuristics["published"]
    assert np.array_equal(transferred, create().heuristics["published"])
