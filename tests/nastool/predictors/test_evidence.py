import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors.evidence import same_measurement, stated_unit
from nastool.predictors.fitting import fit_table
from nastool.predictors.tables import read_measurements
from nastool.space import Gene, SearchSpace

pytestmark = pytest.mark.usefixtures("few_trees")


class Pairs(SearchSpace):
    """Two genes whose order means nothing."""

    name = "pairs"
    genes = (Gene("a", (1, 2, 3)), Gene("b", (1, 2, 3)))

    def canonicalize(self, genotypes):
        return np.sort(genotypes, axis=1)


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).lognormal(3, 0.5, 40)


@pytest.mark.parametrize(
    "written",
    [
        lambda v: v,
        lambda v: v / 1e3,
        lambda v: v * 1.8 + 32,
        lambda v: np.array([float(f"{x:.4g}") for x in v]),
        lambda v: np.array([float(f"{x / 1e3:.3g}") for x in v]),
        lambda v: np.round(v, 1),
        lambda v: np.where(np.arange(len(v)) % 3 == 0, v * 1.2, v * 1e6),
    ],
    ids=["equal", "unit", "affine", "digits", "unit and digits", "decimals", "a third redone"],
)
def test_one_measurement_is_known_however_it_is_written(values, written):
    assert same_measurement(values, written(values)).mean() > 0.5
    assert same_measurement(written(values), values).mean() > 0.5


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_second_measurement_is_not_taken_for_the_first(values, noise):
    again = values * (1 + noise * np.random.default_rng(1).normal(size=len(values)))
    assert not same_measurement(values, again).any()
    assert not same_measurement(values, 3 * again + 1).any()


def test_equivalent_shapes_are_one_shape_and_their_repeats_give_the_noise(tmp_path):
    rows = [(1, 2, 10.0), (2, 1, 10.2), (3, 3, 20.0), (1, 1, 5.0), (1, 1, 5.0)]
    found = read_measurements(write(tmp_path / "t.csv", "a,b,y", rows), "y", Pairs())
    assert found.targets.tolist() == pytest.approx([10.1, 20.0, 5.0])
    assert found.lines == ((2, 3), (4,), (5, 6))
    assert (found.repeats.rows, found.repeats.shapes, found.repeats.repeated) == (5, 3, 1)
    assert found.repeats.copies == 1
    assert found.repeats.noise == pytest.approx(0.2 / 10.1)


def test_repeats_that_disagree_are_refused_with_their_lines(tmp_path):
    rows = [(1, 2, 10.0, "x"), (3, 3, 20.0, "x"), (2, 1, 500.0, "y")]
    table = write(tmp_path / "t.csv", "a,b,y,note", rows)
    with pytest.raises(InvalidInputError, match=r"line 2 says 10 and .*line 4 says 500.*'note'"):
        read_measurements(table, "y", Pairs())


@pytest.mark.parametrize(
    "column", ["batch", "batch_size", "seq_len", "numThreads", "precision", "Device", "gpu name"]
)
def test_rows_under_different_conditions_are_refused_or_chosen(tmp_path, column):
    rows = [(1, 2, 10.0, 1), (3, 3, 20.0, 1), (1, 1, 30.0, 128), (1, 3, 40.0, 128)]
    table = write(tmp_path / "t.csv", f"a,b,y,{column}", rows)
    with pytest.raises(InvalidInputError, match=f"column '{column}' says 1, 128"):
        read_measurements(table, "y", Pairs())
    found = read_measurements(table, "y", Pairs(), where=[f"{column}=128"])
    assert found.targets.tolist() == [30.0, 40.0]
    assert found.conditions == {column: "128"}


def test_a_column_that_crosses_the_shapes_is_a_condition_whatever_its_name(tmp_path):
    rows = [(1, k, 10.0 * k, mode) for k in (1, 2, 3) for mode in ("quiet", "busy")]
    table = write(tmp_path / "t.csv", "a,b,y,mode", rows)
    with pytest.raises(InvalidInputError, match="'mode' says quiet, busy"):
        read_measurements(table, "y", Pairs())


@pytest.mark.parametrize("column", ["run", "repeat", "seed", "round"])
def test_a_column_that_tells_repeats_apart_is_none(tmp_path, column):
    rows = [(1, k, 10.0 * k + run, run) for k in (1, 2, 3) for run in (1, 2)]
    table = write(tmp_path / "t.csv", f"a,b,y,{column}", rows)
    assert len(read_measurements(table, "y", Pairs())) == 3


@pytest.mark.parametrize("where", ["batch", "batch=", "size=1", "batch_size=7"])
def test_a_choice_of_rows_that_leaves_none_is_refused(tmp_path, where):
    table = write(tmp_path / "t.csv", "a,b,y,batch_size", [(1, 2, 10.0, 1)])
    with pytest.raises(InvalidInputError, match="--where"):
        read_measurements(table, "y", Pairs(), where=[where])


def test_what_a_table_says_of_its_unit_counts():
    assert stated_unit({"unit": "ms"}, "", "t.csv") == "ms"
    assert stated_unit({}, "s", "t.csv") == "s"
    with pytest.raises(InvalidInputError, match="expected the unit 'ms'"):
        stated_unit({"unit": "ms"}, "s", "t.csv")


def table_of(tmp_path, values, genes=4):
    rng = np.random.default_rng(0)
    shapes = np.unique(rng.integers(1, 6, (2 * len(values), genes)), axis=0)
    shapes = rng.permutation(shapes)[: len(values)]
    header = ",".join([*(f"layer_{i + 1}" for i in range(genes)), "y"])
    rows = [[*shape, value] for shape, value in zip(shapes.tolist(), values(shapes), strict=True)]
    return write(tmp_path / "t.csv", header, rows), shapes


class Sized:
    """Values of shapes, with a length."""

    def __init__(self, n, function):
        self.n, self.function = n, function

    def __len__(self):
        return self.n

    def __call__(self, shapes):
        return self.function(shapes)


def test_outliers_are_left_out_and_their_lines_said(tmp_path):
    def values(shapes):
        y = 100.0 + shapes.sum(axis=1) + np.random.default_rng(1).normal(0, 0.3, len(shapes))
        y[[5, 50, 99]] *= 1000
        return y

    path, _ = table_of(tmp_path, Sized(150, values))
    data = read_measurements(path, "y")
    fitted = fit_table(data, "xgboost")
    assert len(fitted.data) == 147
    assert fitted.held_out.scores.spearman > 0.9
    assert any("lines 7, 52, 101" in note for note in fitted.notes)
    kept = fit_table(data, "linear", keep_outliers=True)
    assert len(kept.data) == 150


def test_two_kinds_of_rows_are_refused(tmp_path):
    def values(shapes):
        y = 100.0 + shapes.sum(axis=1)
        y[::5] /= 1000
        return y

    path, _ = table_of(tmp_path, Sized(150, values))
    with pytest.raises(InvalidInputError, match="another unit"):
        fit_table(read_measurements(path, "y"), "linear")


def test_two_groups_of_one_kind_are_learnt(tmp_path):
    """E.g. shapes that a device runs by another kernel: half as slow, and hardly any noise."""

    def values(shapes):
        fast = shapes[:, 0] == shapes[:, 0].max()
        return np.where(fast, 0.0673, 0.1345) + 1e-6 * shapes.sum(axis=1)

    path, _ = table_of(tmp_path, Sized(150, values))
    assert len(fit_table(read_measurements(path, "y"), "linear").data) == 150


def test_a_heavy_tail_that_the_shapes_explain_is_no_outlier(tmp_path):
    path, _ = table_of(tmp_path, Sized(150, lambda shapes: np.exp(shapes.sum(axis=1) / 4.0)))
    assert len(fit_table(read_measurements(path, "y"), "linear").data) == 150


def test_a_constant_target_and_too_few_shapes_are_refused_and_few_are_said(tmp_path):
    path, _ = table_of(tmp_path, Sized(40, lambda shapes: np.full(len(shapes), 7.0)))
    with pytest.raises(InvalidInputError, match="different values, got 7 in all 40"):
        fit_table(read_measurements(path, "y"), "linear")
    path, _ = table_of(tmp_path, Sized(3, lambda shapes: shapes.sum(axis=1) + 0.5 * shapes[:, 0]))
    fitted = fit_table(read_measurements(path, "y"), "linear")
    assert any("3 shapes are few" in note for note in fitted.notes)
    assert fitted.held_out.interval is None
    assert fitted.optimism is None


def test_a_gene_of_one_choice_is_said(tmp_path):
    rows = [(3, k, 1.0 * k + j / 10, j) for k in range(1, 6) for j in range(1, 6)]
    rows = [(a, k, j, y) for a, k, y, j in rows]
    path = write(tmp_path / "t.csv", "layer_1,layer_2,layer_3,y", rows)
    fitted = fit_table(read_measurements(path, "y"), "linear")
    assert any("layer_1 3" in note for note in fitted.notes)
