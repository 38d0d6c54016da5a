import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nastool import load_objective
from nastool.cli.main import main
from nastool.errors import InvalidInputError
from nastool.space import ChainBudget
from nastool.testing import SearchSpaceConformance
from nastool_supershaper.families import published_shapes
from nastool_supershaper.space import (
    PRESETS,
    SuperShaperSpace,
    create,
    from_config,
    shipped_reference,
)


class TestPublishedSpace(SearchSpaceConformance):
    def make(self):
        return create()


class TestSmallSpace(SearchSpaceConformance):
    def make(self):
        return create("minilm-6")


class TestOneLayer(SearchSpaceConformance):
    def make(self):
        return SuperShaperSpace(layers=1, widths=(24, 48), heads=12)

    def test_keys_identify_genotypes(self):
        space = self.make()
        assert space.keys(np.array([[0], [1]])) == [0, 1]


def closed_form(space, widths):
    """The count of the paper's tables, summed shape by shape, (n, layers) to (n,)."""
    h = np.concatenate([np.full((len(widths), 1), space.hidden), widths], axis=1)
    inner, d = space.ffn, space.hidden
    tokens = space.vocabulary + space.positions + space.segments
    per_layer = 4 * (widths**2 + widths) + 2 * widths * inner + inner + widths + 4 * widths
    merged = (h[:, :-1] * h[:, 1:] + h[:, 1:]).sum(axis=1) + h[:, -1] * d + d
    return tokens * d + 2 * d + per_layer.sum(axis=1) + merged + d * d + d + 2 * d


@pytest.mark.parametrize(
    "preset", [*PRESETS, "layers=1", "layers=2,widths=24/60,ffn=7,positions=9"]
)
def test_params_are_the_closed_form(preset):
    space = create(preset)
    genotypes = space.sample(500, np.random.default_rng(0))
    widths = np.array(space.decode(genotypes))
    assert np.array_equal(space.costs["params"].evaluate(genotypes), closed_form(space, widths))


# Millions, as printed in table 6 and figure 6. The row "random" is left out: its printed shape
# does not have its printed count.
@pytest.mark.parametrize("name", [n for n in published_shapes() if n != "random"])
def test_params_are_the_printed_ones(name):
    space, shape = create(), published_shapes()[name]
    count = space.costs["params"].evaluate(space.encode([shape.widths]))[0]
    assert abs(count / 1e6 - shape.params) <= 0.6


def test_the_misprinted_row_counts_what_its_shape_has():
    space, shape = create(), published_shapes()["random"]
    count = space.costs["params"].evaluate(space.encode([shape.widths]))[0]
    assert shape.params == 64
    assert round(count / 1e6) == 67


def test_range_of_the_published_space():
    space = create()
    params = space.costs["params"]
    assert space.size == 13_841_287_201
    assert params.minimum[0] == 33_190_656
    assert params.maximum[0] == 115_989_504
    assert params.first.dtype == np.int64


@pytest.mark.parametrize("cost", ["params", "macs", "memory"])
@pytest.mark.parametrize("quantiles", [(0.0, 0.001), (0.2, 0.6), (0.9, 1.0)])
def test_counts_of_feasible_shapes_are_those_of_brute_force(cost, quantiles):
    space = create("minilm-6")
    every = np.indices((7,) * 6).reshape(6, -1).T
    chain = space.costs[cost]
    values = chain.evaluate(every)
    lower, upper = np.quantile(values, quantiles, method="nearest")
    budget = ChainBudget(chain, upper, lower)
    expected = int(((values >= lower) & (values <= upper)).sum())
    assert (budget.count.low, budget.count.high) == (expected, expected)


def test_feasible_shapes_of_the_published_space_at_45m():
    space = create()
    chain = space.costs["params"]
    # Left and right halves joined at layer 6, counted pair by pair of sorted halves.
    halves = np.indices((7,) * 6).reshape(6, -1).T
    left = chain.first[halves[:, 0]] + sum(
        chain.steps[i][halves[:, i], halves[:, i + 1]] for i in range(5)
    )
    suffix = sum(chain.steps[i + 6][halves[:, i], halves[:, i + 1]] for i in range(5))
    total = 0
    for a in range(7):
        for b in range(7):
            ends = np.sort(left[halves[:, 5] == a])
            begins = suffix[halves[:, 0] == b] + chain.steps[5][a, b]
            total += int(np.searchsorted(ends, 45_000_000 - begins, side="right").sum())
    assert ChainBudget(chain, 45e6).count.high == total == 1_637_796


def test_flops_are_two_per_multiplication():
    space = create("minilm-6")
    genotypes = space.sample(20, np.random.default_rng(1))
    macs, flops = (space.costs[name].evaluate(genotypes) for name in ("macs", "flops"))
    assert np.array_equal(flops, 2 * macs)


def test_costs_are_those_of_the_deployed_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertForMaskedLM

    space = SuperShaperSpace(
        layers=3, widths=(8, 12, 20), ffn=28, heads=4, vocabulary=50, positions=130, segments=2
    )
    for genotype in ([0, 2, 1], [2, 0, 0], [1, 1, 2]):
        shape = space.decode([genotype])[0]
        config = ShapedBertConfig(
            shape=shape,
            vocab_size=50,
            hidden_size=20,
            num_attention_heads=4,
            intermediate_size=28,
            max_position_embeddings=130,
        )
        model = ShapedBertForMaskedLM(config).eval()
        row = np.array([genotype])
        weights = {id(p): p for p in model.parameters()}.values()
        count = sum(p.numel() for p in weights)
        assert space.costs["params"].evaluate(row)[0] == count - space.vocabulary
        assert space.costs["memory"].evaluate(row)[0] == sum(p.nbytes for p in weights)
        # The fused kernels of the CPU are not counted.
        with (
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            model.bert(torch.zeros(1, 128, dtype=torch.long))
        assert space.costs["flops"].evaluate(row)[0] == counter.get_total_flops()


@given(
    layers=st.integers(1, 24),
    widths=st.sets(st.integers(1, 64), min_size=1, max_size=8),
    heads=st.sampled_from([1, 2, 12]),
    sizes=st.tuples(*[st.integers(1, 60_000)] * 4),
)
def test_a_space_is_read_back_from_its_name(layers, widths, heads, sizes):
    ffn, vocabulary, positions, segments = sizes
    space = SuperShaperSpace(
        layers=layers,
        widths=tuple(heads * w for w in sorted(widths)),
        ffn=ffn,
        heads=heads,
        vocabulary=vocabulary,
        positions=positions,
        segments=segments,
    )
    argument = space.name.removeprefix("supershaper").strip("[]") or None
    assert create(argument) == space


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_carry_their_names(preset):
    assert create(preset).name == preset
    assert create(preset) == SuperShaperSpace(**PRESETS[preset])


def test_space_of_a_supernet(tmp_path):
    config = {
        "model_type": "supershaper",
        "num_hidden_layers": 6,
        "widths": [60, 120, 180, 240, 276, 300, 384],
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_attention_heads": 12,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert create(str(tmp_path)) == create("minilm-6")
    assert from_config({**config, "vocab_size": 99}).name == (
        "supershaper[layers=6,widths=60/120/180/240/276/300/384,ffn=1536,vocabulary=99]"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert"}', "model_type 'bert'"),
        ('{"model_type": "supershaper"}', "lacks num_hidden_layers"),
        ("[]", "expected an object, got list"),
        ("{", r"config\.json: no JSON: .* line 1"),
    ],
)
def test_folders_without_a_supernet_are_rejected(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        create(str(tmp_path))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("minilm", "preset .supershaper, minilm-6."),
        ("layer=6", "unknown size 'layer'"),
        ("layers=6,layers=7", "given twice"),
        ("layers=6.5", "must be an integer"),
        ("layers=6/7", "must be an integer"),
        ("layers=0", "layers must be a positive integer, got 0"),
        ("widths=120/", "integers joined"),
        ("widths=240/120", "ascending"),
        ("widths=120/120", "ascending"),
        ("widths=100/200", "multiples of 12 heads"),
    ],
)
def test_bad_arguments_say_what_must_hold(argument, message):
    with pytest.raises(InvalidInputError, match=message):
        create(argument)


def test_empty_folder_is_no_supernet(tmp_path):
    with pytest.raises(InvalidInputError, match=r"config\.json does not exist"):
        create(str(tmp_path))


def test_a_reference_is_that_of_the_space_and_the_metric(tmp_path):
    own = tmp_path / "supershaper" / "perplexity"
    own.mkdir(parents=True)
    assert shipped_reference(tmp_path, "supershaper", "perplexity") == own
    assert shipped_reference(tmp_path, "supershaper", "latency") is None
    assert shipped_reference(tmp_path, "minilm-6", "perplexity") is None


def test_the_published_perplexities_are_those_of_the_paper():
    ((genotypes, values),) = create().published("perplexity").values()
    shapes = create().decode(genotypes)
    table = {tuple(map(int, shape)): value for shape, value in zip(shapes, values, strict=True)}
    assert len(table) == 10
    assert table[480, 360, 360, 240, 240, 360, 480, 480, 360, 480, 540, 540] == 6.86
    assert table[768, 600, 600, 600, 600, 600, 120, 120, 120, 120, 120, 120] == 9.22
    assert create().published("latency") == {}
    assert create("minilm-6").published("perplexity") == {}


def test_what_ships_for_the_papers_space_orders_shapes_like_the_paper():
    space = create()
    perplexity = load_objective("perplexity", space)
    source = perplexity.provenance
    assert source.proxy == ""
    published, news, third, seventh = source.agreements
    assert published.published
    assert published.n == 10
    assert published.spearman == pytest.approx(0.927, abs=0.005)
    assert (news.source, news.n) == ("news text", 1280)
    assert news.spearman > 0.97
    assert (third.source, third.n) == ("a third net", 12)
    assert third.spearman > 0.9
    assert (seventh.source, seventh.n) == ("a seventh net, the best language model", 2827)
    assert seventh.spearman == pytest.approx(0.81, abs=0.005)
    # The paper's finding: a cigar beats the templates of its size.
    named = space.heuristics
    small = named["cigar"][np.abs(space.costs["params"].evaluate(named["cigar"]) - 61e6) < 1e6]
    assert perplexity.evaluate(small).max() < perplexity.evaluate(named["templates"]).min() + 3


@pytest.mark.parametrize("name", ["..", "supershaper[layers=6]", "../minilm-6", ""])
def test_references_stay_in_their_folder(tmp_path, name):
    (tmp_path / "reference" / "perplexity").mkdir(parents=True)
    (tmp_path / "perplexity").mkdir()
    assert shipped_reference(tmp_path / "reference", name, "perplexity") is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("layers=30000000", "layers must be at most 1,000, got 30000000"),
        ("layers=" + "9" * 5000, "layers must be an integer"),
        ("layers=" + "9" * 18, "layers must be at most 1,000"),
        ("widths=12/1200000", "widths must be at most 65,536, got 1200000"),
        ("widths=" + "/".join(str(12 * k) for k in range(1, 300)), "at most 256 sizes, got 299"),
        ("heads=65537", "heads must be at most 65,536"),
        ("vocabulary=30000000", "vocabulary must be at most 10,000,000"),
        ("positions=99999999999", "positions must be at most 10,000,000"),
        ("segments=99999999", "segments must be at most 65,536"),
        ("ffn=30000000", "ffn must be at most 1,000,000"),
        ("x" * 5000, "expected a preset"),
    ],
)
def test_sizes_beyond_every_model_are_refused(argument, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        create(argument)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 30_000_000),
        ("num_hidden_layers", 10**4000),
        ("vocab_size", 10**12),
        ("num_attention_heads", 10**9),
        ("intermediate_size", 10**9),
        ("max_position_embeddings", 10**9),
        ("type_vocab_size", 10**9),
        ("widths", [12, 12 * 10**9]),
        ("widths", [12] * 100_000),
        ("widths", [-(10**4000)]),
    ],
)
def test_a_damaged_configuration_is_refused_at_once(tmp_path, key, value):
    sizes = {
        "model_type": "supershaper",
        "num_hidden_layers": 2,
        "widths": [12, 24],
        "intermediate_size": 10,
        "num_attention_heads": 12,
        "vocab_size": 10,
        "max_position_embeddings": 10,
        "type_vocab_size": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps({**sizes, key: value}))
    with pytest.raises(InvalidInputError, match=r"config\.json: .* must be") as caught:
        create(str(tmp_path))
    assert len(str(caught.value)) < 500


def test_widths_that_miss_fast_kernels_are_told():
    heads, products = create().misfits
    assert heads.choices == (120, 240, 360, 540, 600)
    assert "heads of 10, 20, 30, 45, 50 are no multiples of 8" in heads.reason
    assert products.choices == (540,)
    assert create("aligned").misfits == ()
    assert create("aligned").widths == (96, 192, 288, 384, 480, 576, 672, 768)
    assert create("aligned").costs["params"].maximum[0] == create().costs["params"].maximum[0]


def test_the_command_tells_misfits():
    run = CliRunner().invoke(main, ["space", "supershaper"])
    assert "NVIDIA GPUs in 16 bits, not padded: 540: no fast matrix products" in run.stdout
    content = json.loads(
        CliRunner().invoke(main, ["space", "supershaper", "--format", "json"]).stdout
    )
    assert content["misfits"][1]["choices"] == [540]
    assert "misfits" in json.loads(
        CliRunner().invoke(main, ["space", "supershaper:aligned", "--format", "json"]).stdout
    )
