import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nastool.errors import InvalidInputError
from nastool.space import Gene, SearchSpace


class Space(SearchSpace):
    def __init__(self, genes, name="toy"):
        self._genes = tuple(genes)
        self._name = name

    @property
    def name(self):
        return self._name

    @property
    def genes(self):
        return self._genes


WIDTHS = Gene("width", (120, 240, 768), ordered=True)
OPERATORS = Gene("operator", ("conv-3x3", "skip"))
RATIO = Gene("ratio", (-0.5, 2))
TOY = Space([WIDTHS, Gene("depth", (2, 4)), WIDTHS])
NAMED = Space([WIDTHS, OPERATORS, RATIO])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "at least one"),
        ((1, 2, 1), "distinct"),
        ((1, 1.0), "distinct"),
        ((1, "1"), "distinct"),
        (("a,b",), "commas"),
        (("a b",), "white space"),
        (("",), "white space"),
    ],
)
def test_a_gene_refuses_choices_that_are_ambiguous(choices, message):
    with pytest.raises(InvalidInputError, match=message):
        Gene("g", choices)


def test_a_gene_knows_whether_it_is_numeric():
    assert WIDTHS.is_numeric
    assert RATIO.is_numeric
    assert not OPERATORS.is_numeric


def test_defaults_of_a_space():
    assert TOY.size == 18
    assert TOY.cardinalities.tolist() == [3, 2, 3]
    assert TOY.costs == {}
    assert TOY.heuristics == {}
    assert TOY.reference("perplexity") is None
    rows = np.array([[0, 1, 2]])
    assert TOY.canonicalize(rows) is rows


def test_size_is_exact_beyond_64_bits():
    assert Space([WIDTHS] * 60).size == 3**60


@pytest.mark.parametrize("space", [TOY, NAMED])
def test_decode_encode_format_and_parse_are_inverse(space):
    every = np.stack(
        [axis.ravel() for axis in np.meshgrid(*map(np.arange, space.cardinalities))], axis=1
    )
    np.testing.assert_array_equal(space.encode(space.decode(every)), every)
    for row in every:
        np.testing.assert_array_equal(space.parse(space.format(row)), row[None])


def test_text_of_an_architecture():
    assert TOY.format(np.array([2, 0, 1])) == "768-2-240"
    assert NAMED.format(np.array([2, 0, 0])) == "768,conv-3x3,-0.5"
    for text in ("768-2-240", "768 2 240", " 768, 2,240 "):
        assert TOY.parse(text).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("768-2", "3 choices, got 2"),
        ("768-2-240-1", "3 choices, got 4"),
        ("", "3 choices, got 0"),
        ("768-2-241", "width must be one of 120, 240, 768, got '241'"),
    ],
)
def test_parse_says_what_is_wrong(text, message):
    with pytest.raises(InvalidInputError, match=message):
        TOY.parse(text)


@given(st.text(max_size=30))
def test_parse_raises_nothing_else(text):
    try:
        parsed = TOY.parse(text)
    except InvalidInputError:
        return
    assert parsed.shape == (1, 3)


def test_encode_refuses_a_wrong_length():
    with pytest.raises(InvalidInputError, match="3 choices, got 2"):
        TOY.encode([(768, 2)])
    assert TOY.encode([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("genotypes", "message"),
    [
        ([0, 1, 2], r"shape \(n, 3\), got \(3,\)"),
        ([[0, 1]], r"got \(1, 2\)"),
        ([[0, 1], [0]], "one length"),
        ([[0.0, 1.0, 2.0]], "integers"),
        ([[True, False, True]], "integers"),
        ([[0, 2, 0]], "'depth' must be an index below 2, got 2"),
        ([[0, 0, -1]], "'width' must be an index below 3, got -1"),
        (np.array([[2**64 - 1, 0, 0]], dtype=np.uint64), "index below 3"),
    ],
)
def test_validate_refuses(genotypes, message):
    with pytest.raises(InvalidInputError, match=message):
        TOY.validate(genotypes)


def test_validate_returns_int64():
    validated = TOY.validate(np.array([[2, 1, 0]], dtype=np.uint8))
    assert validated.dtype == np.int64
    assert validated.tolist() == [[2, 1, 0]]
    assert TOY.validate(np.empty((0, 3))).dtype == np.int64


def test_features_are_values_where_numeric_and_indices_elsewhere():
    features = NAMED.features(np.array([[2, 1, 0], [0, 0, 1]]))
    assert features.tolist() == [[768.0, 1.0, -0.5], [120.0, 0.0, 2.0]]


def test_samples_are_uniform_and_repeatable():
    drawn = TOY.sample(18_000, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, TOY.sample(18_000, np.random.default_rng(0)))
    counts = np.bincount(TOY.keys(drawn), minlength=18)
    assert counts.min() > 800
    assert counts.max() < 1200


@pytest.mark.parametrize("genes", [1, 3, 60])
def test_keys_are_distinct_where_genotypes_are(genes):
    space = Space([WIDTHS] * genes)
    rows = np.unique(space.sample(300, np.random.default_rng(1)), axis=0)
    keys = space.keys(rows)
    assert len(set(keys)) == len(rows)
    assert keys == space.keys(rows[:, ::-1][:, ::-1])


def test_the_fingerprint_changes_with_the_content():
    variants = [
        TOY,
        Space(TOY.genes, "other"),
        Space(TOY.genes[:2]),
        Space([Gene("width", (120, 240, 540), ordered=True), *TOY.genes[1:]]),
        Space([Gene("width", (120, 240, 768)), *TOY.genes[1:]]),
        Space([Gene("first", (120, 240, 768), ordered=True), *TOY.genes[1:]]),
    ]
    assert len({space.fingerprint for space in variants}) == len(variants)
    assert Space(TOY.genes).fingerprint == TOY.fingerprint
