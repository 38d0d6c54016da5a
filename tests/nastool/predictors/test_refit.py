from dataclasses import replace

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors.fitting import fit_table, refit
from nastool.predictors.tables import TARGET, Measurements, read_measurements
from nastool.testing import Mixed, Widths

pytest.importorskip("scipy")

SPACE = Widths()


def truth(genotypes):
    widths = SPACE.features(genotypes)[:, :4]
    return widths @ np.array([3.0, 1, 1, 2]) + 0.1 * np.square(widths).sum(axis=1)


def measured(genotypes, function=truth):
    return Measurements(
        genes=tuple(gene.name for gene in SPACE.genes),
        choices=tuple(gene.choices for gene in SPACE.genes),
        costs=("params",),
        features=np.column_stack(
            [
                np.array(SPACE.genes[0].choices, dtype=float)[genotypes],
                SPACE.costs["params"].evaluate(genotypes),
            ]
        ),
        targets=function(genotypes),
        dropped=0,
        space=SPACE.name,
        fingerprint=SPACE.fingerprint,
        source={},
    )


def draws(n, seed):
    drawn = SPACE.sample(2 * n, np.random.default_rng(seed))
    return np.unique(drawn, axis=0)[:n]


def test_a_table_survives_its_file(tmp_path):
    table = measured(draws(30, 0))
    (tmp_path / "t.csv").write_text(table.to_csv())
    again = read_measurements(tmp_path / "t.csv", TARGET, SPACE, ["params"])
    np.testing.assert_array_equal(again.features, table.features)
    np.testing.assert_array_equal(again.targets, table.targets)


def test_a_table_of_texts_survives_its_file(tmp_path):
    space = Mixed()
    genotypes = np.unique(space.canonicalize(space.sample(40, np.random.default_rng(0))), axis=0)
    rows = [",".join(map(str, architecture)) for architecture in space.decode(genotypes)]
    header = ",".join([*(gene.name for gene in space.genes), "loss"])
    lines = [f"{row},{i}" for i, row in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]))
    table = read_measurements(tmp_path / "t.csv", "loss", space)
    (tmp_path / "again.csv").write_text(table.to_csv())
    again = read_measurements(tmp_path / "again.csv", TARGET, space)
    np.testing.assert_array_equal(again.features, table.features)


def test_new_shapes_count_and_replace_old_ones():
    table = measured(draws(40, 0))
    fitted = fit_table(table, "linear")
    new = measured(draws(12, 1), lambda g: truth(g) + 5)
    refitted = refit(fitted.predictor, table, new)
    common = {row.tobytes() for row in table.features} & {row.tobytes() for row in new.features}
    assert common
    assert len(refitted.data) == len(table) + len(new) - len(common)
    before = fitted.predictor.predict(new.features).mean
    after = refitted.predictor.predict(new.features).mean
    assert np.abs(after - new.targets).mean() < 0.8 * np.abs(before - new.targets).mean()
    assert refitted.held_out.scores.n == 12


def test_without_a_table_it_is_recalibrated():
    fitted = fit_table(measured(draws(60, 0)), "linear")
    new = measured(draws(12, 1), lambda g: 3 * truth(g) + 7)
    refitted = refit(fitted.predictor, None, new)
    assert refitted.predictor.kind == "transfer"
    others = measured(draws(200, 2), lambda g: 3 * truth(g) + 7)
    np.testing.assert_allclose(
        refitted.predictor.predict(others.features).mean, others.targets, rtol=0.05
    )
    # What was recalibrated once can be refitted with its own table.
    again = refit(refitted.predictor, refitted.data, replace(others))
    assert again.predictor.kind == "transfer"
    assert len(again.data) >= 200


def test_two_shapes_are_too_few():
    fitted = fit_table(measured(draws(40, 0)), "linear")
    with pytest.raises(InvalidInputError, match="at least 3 measured shapes, got 2"):
        refit(fitted.predictor, None, measured(draws(2, 1)))
