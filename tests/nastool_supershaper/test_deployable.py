from itertools import pairwise

import numpy as np
import pytest

from nastool.devices import Workload
from nastool.errors import InvalidInputError
from nastool.testing import Widths
from nastool_supershaper.space import create

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

SIZES = "layers=3,widths=24/48/96,ffn=64,heads=12,vocabulary=50,positions=20"


@pytest.fixture(scope="module")
def space():
    return create(SIZES)


def test_a_shape_has_its_widths_and_runs(space):
    deployment = space.deploy(np.array([0, 2, 1]), Workload(2, 7))
    widths = [layer.query.in_features for layer in deployment.module.layers]
    assert widths == [24, 96, 48]
    with torch.inference_mode():
        output = deployment.module(**deployment.inputs).last_hidden_state
    assert output.shape == (2, 7, 96)
    assert output.isfinite().all()
    assert not deployment.module.training


def test_it_has_the_parameters_that_the_space_counts(space):
    genotypes = space.sample(5, np.random.default_rng(0))
    head = 96 * 96 + 96 + 2 * 96
    for genotype, params in zip(genotypes, space.costs["params"].evaluate(genotypes), strict=True):
        module = space.deploy(genotype, Workload(1, 4)).module
        assert sum(p.numel() for p in module.parameters()) + head == params


def test_weights_are_shared_between_shapes_but_not_within_one(space):
    def storage(genotype):
        parameters = space.deploy(np.array(genotype), Workload(1, 4)).module.parameters()
        return [(p.data_ptr(), p.numel() * p.element_size()) for p in parameters]

    pieces = sorted(storage([2, 2, 2]))
    assert all(a + size <= b for (a, size), (b, _) in pairwise(pieces))
    assert storage([2, 2, 1])[0] == storage([2, 1, 2])[0]


def test_weights_repeat(space):
    runs = []
    for _ in range(2):
        deployment = space.deploy(np.array([1, 1, 1]), Workload(1, 5))
        with torch.inference_mode():
            runs.append(deployment.module(**deployment.inputs).last_hidden_state)
    assert torch.equal(*runs)


def test_sequences_beyond_the_positions_are_refused(space):
    with pytest.raises(InvalidInputError, match="must be at most 20"):
        space.deploy(np.zeros(3, np.int64), Workload(1, 21))


def test_spaces_that_cannot_be_deployed_say_so():
    with pytest.raises(InvalidInputError, match="space widths must define `deploy`"):
        Widths().deploy(np.zeros(4, np.int64), Workload())
