import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nastool.errors import InvalidInputError
from nastool.space import Branch, Gene, SearchSpace, check_space
from tests.nastool.conftest import Tensor


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
        (("\udcff", "b"), "characters that can be seen"),
        (("a\x00b",), "characters that can be seen"),
    ],
)
def test_a_gene_refuses_choices_that_are_ambiguous(choices, message):
    with pytest.raises(InvalidInputError, match=message):
        Gene("g", choices)


@pytest.mark.parametrize(
    "choices",
    [
        np.arange(64, 257, 64),
        tuple(np.arange(64, 257, 64)),
        list(np.arange(64, 257, 64, dtype=np.int32)),
        range(64, 257, 64),
        [np.array(64), np.int16(128), 192, np.uint64(256)],
    ],
)
def test_choices_of_numpy_become_python_s_own(choices):
    gene = Gene("w", choices, np.True_)
    assert gene == Gene("w", (64, 128, 192, 256), True)
    assert {type(choice) for choice in gene.choices} == {int}
    assert Space([gene]).fingerprint == Space([Gene("w", (64, 128, 192, 256), True)]).fingerprint
    floats = Gene("f", np.array([0.25, 0.5], dtype=np.float32)).choices
    assert [type(choice) for choice in floats] == [float, float]
    assert [type(choice) for choice in Gene("t", np.array(["a", "b"])).choices] == [str, str]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (([1, 2], [3, 4]), "finite number or a text"),
        ((None, 1), "finite number or a text"),
        ((1.0, float("nan")), "finite number or a text, got nan"),
        ((np.float64("inf"), 1), "finite number or a text, got inf"),
        ((1j,), "finite number or a text"),
        ((10**5000, 1), "number that is too large"),
        ("abc", "must be a tuple of numbers or texts, got str"),
        (5, "must be a tuple of numbers or texts, got int"),
        ({1, 2}, "must be a tuple of numbers or texts, got set"),
        (np.array(5), "must be a tuple of numbers or texts"),
        (np.eye(2), "finite number or a text"),
        (range(10**12), "at most 1,000,000 choices"),
        ((1, 2, 3, 2), "choices must be distinct, got 2 twice"),
        ((1, "2", 2), "choices must be distinct, got 2 twice"),
        ((1, 2, 1.0), "choices must be distinct, got 1.0 twice"),
    ],
)
def test_a_gene_refuses_what_is_no_choice_in_one_line(choices, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        Gene("g", choices)
    assert len(str(caught.value).splitlines()) == 1
    assert "gene 'g'" in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "a ", "a\nb", "\t", None, 5, b"a"])
def test_a_gene_must_have_a_name(name):
    with pytest.raises(InvalidInputError, match="a gene's name must"):
        Gene(name, (1, 2))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Space([]), "space toy must have at least one gene and at most 10,000, got none"),
        (Space([WIDTHS, RATIO, WIDTHS]), "distinct names, got 'width' twice"),
        (Space([WIDTHS, "depth"]), "genes must be a tuple of Gene"),
        (Space([Gene(f"g{k}", (1, 2)) for k in range(10_001)]), "got 10001"),
        (Space([WIDTHS], name=""), "space Space: the name must have characters"),
        (Space([WIDTHS], name=7), "space Space: the name must be a text, got int"),
        (object(), "must derive from nastool.space.SearchSpace, got object"),
    ],
)
def test_a_space_says_what_it_must(space, message):
    with pytest.raises(InvalidInputError, match=message):
        check_space(space)


def test_attributes_of_instances_are_accepted():
    class Plain(SearchSpace):
        def __init__(self, genes):
            self.name = "plain"
            self.genes = tuple(genes)
            self.heuristics = {"first": np.zeros((1, len(genes)), dtype=np.int64)}

    @dataclass(frozen=True)
    class Fields(SearchSpace):
        name: str
        genes: tuple[Gene, ...]

    for space in (Plain([WIDTHS, RATIO]), Fields("fields", (WIDTHS, RATIO))):
        assert check_space(space) is space
        assert (space.size, len(space.costs)) == (6, 0)

    class Nameless(SearchSpace):
        genes = (WIDTHS,)

    with pytest.raises(InvalidInputError, match="Nameless must have 'name': an attribute of the"):
        check_space(Nameless())
    assert not hasattr(Nameless(), "name")


def test_every_shape_has_a_name_of_its_own_that_is_read_back():
    space = Space(
        [
            Gene("a", ("conv", "conv-3")),
            Gene("b", ("3-pool", "pool")),
            Gene("c", (-1, 1e-7, 2.5)),
        ]
    )
    every = np.indices(tuple(space.cardinalities)).reshape(3, -1).T
    texts = space.texts(every)
    assert texts == [space.format(row) for row in every]
    assert len(set(texts)) == space.size
    for row, text in zip(every, texts, strict=True):
        assert space.parse(text)[0].tolist() == row.tolist()


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
        ([768, 2, 240], "must be a text, got list"),
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
        (Tensor(), "must be rows of one length, got Tensor: RuntimeError: use detach"),
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


def test_branches_count_in_a_fingerprint_and_nothing_in_their_place():
    # Stores, predictors and campaigns hold these digests: they are what they were.
    content = [TOY.name, [[gene.name, list(gene.choices), gene.ordered] for gene in TOY.genes]]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    assert TOY.fingerprint == digest

    class Branching(Space):
        branches = (Branch({0: 0}, (1,)), Branch({0: 1}), Branch({0: 2}))

    assert Branching(TOY.genes).fingerprint != digest


def test_the_first_index_that_is_none_is_named():
    with pytest.raises(InvalidInputError, match="gene 'operator' must be an index below 2, got 5"):
        NAMED.validate([[0, 5, 0], [7, 0, 0]])


class Idle(Space):
    """Where the first gene is at its least the second does not matter, and is at its most."""

    def canonicalize(self, genotypes):
        idle = genotypes[:, 0] == 0
        return np.where(idle[:, None] & (np.arange(3) == 1), self.cardinalities - 1, genotypes)


def test_draws_of_a_space_with_forms_of_its_own_are_such_forms():
    space = Idle([Gene("a", (0, 1)), Gene("b", tuple(range(40))), Gene("c", (0, 1))])
    drawn = space.sample(300, np.random.default_rng(0))
    assert np.array_equal(space.canonicalize(drawn), drawn)
    # 2 architectures where the first gene is 0, 80 where it is 1.
    assert 0 < (drawn[:, 0] == 0).mean() < 0.08
