"""A net is shrunk in one command, which goes on where it was stopped."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.nastool_supernets.conftest import TOY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.cli.main import main  # noqa: E402
from nastool.constraint import parse_constraint  # noqa: E402
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError  # noqa: E402

pytestmark = pytest.mark.usefixtures("few_trees")


def nastool(*words):
    return CliRunner().invoke(main, [*map(str, words), "--plugin", str(TOY)])


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """A folder with text and a little-trained net."""
    folder = tmp_path_factory.mktemp("shrink")
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "en", "il") for c in ("", "ms", "t")]
    text = folder / "text.txt"
    text.write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(60)))
    train = f"pretrain --family toy --size toy-tiny --text {text} --tokenizer train:100"
    train += " --sequence-length 16 --held-out 0.2 --preset smoke --steps 4 --dtype float32"
    train += f" --peak-flops 1e9 --tracker none --output {folder / 'net'}"
    result = nastool(*train.split())
    assert result.exit_code == 0, (result.output, result.exception)
    return folder


def table_of(file):
    return list(csv.DictReader(io.StringIO(file.read_text())))


def planned(folder, **rounds):
    """Begin a run by a plan of its own: how long things take here must not matter."""
    folder.mkdir()
    plan = {"levels": 2, "blocks": 2, "check": 2, "seed": 0, **rounds}
    (folder / "plan.json").write_text(json.dumps(plan))


def words(folder, to, **changed):
    given = {"max": "params=6000", "minutes": "30", "sequence-length": "16", "device": "cpu"}
    options = [f"--{name}={value}" for name, value in (given | changed).items()]
    return ["shrink", folder / "net", "--text", folder / "text.txt", "--to", to, *options]


def test_from_a_net_to_the_best_within_a_bound(trained, tmp_path):
    from nastool_supernets.saved import load_supernet

    space = load_supernet(trained / "net").space
    sizes = space.costs["params"].evaluate(space.enumerate())
    bound = int(np.sort(sizes)[5])
    run = words(trained, tmp_path / "run", max=f"params={bound}")
    planned(tmp_path / "run", first=9, rounds=1, shapes=9)
    result = nastool(*run)
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    assert "one-block scores" in result.stderr
    assert "Try it: python -c" in result.stdout
    rows = table_of(tmp_path / "run" / "front.csv")
    (chosen,) = [row for row in rows if row["chosen"] == "1"]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert sum(p.numel() for p in model.parameters()) == float(chosen["params"]) <= bound
    measured = table_of(tmp_path / "run" / "measured.csv")
    # So small a space is measured whole where it matters: nothing within the bound is better.
    losses = {row["shape"]: float(row["loss"]) for row in measured}
    assert losses[chosen["shape"]] <= np.log(float(chosen["perplexity"])) + 1e-4
    assert "text held out of the search" in (tmp_path / "run" / "model" / "README.md").read_text()
    # The same again measures nothing and says the same.
    again = nastool(*run)
    assert again.exit_code == 0, (again.output, again.exception)
    assert table_of(tmp_path / "run" / "measured.csv") == measured
    assert again.stdout.splitlines()[:-3] == result.stdout.splitlines()[:-3]
    # Other settings are refused by name.
    other = nastool(*words(trained, tmp_path / "run", max=f"params={bound}", seed="3"))
    assert other.exit_code == 2
    assert "--seed: the run in" in other.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max": "params"}, "METRIC=VALUE"),
        ({"max": "speed=3"}, "'speed' must be one of params"),
        ({"max": "params=10"}, "no shape of toy"),
        ({"minutes": "0"}, "--minutes"),
        ({"minutes": "1e-9"}, "expected at least"),
    ],
)
def test_what_cannot_be_done_is_one_line(trained, tmp_path, changed, said):
    result = nastool(*words(trained, tmp_path / "run", **changed))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_that_is_no_model_is_refused(trained, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "rwkv"}))
    for folder, said in (("other", "type rwkv"), ("none", "no config.json")):
        line = words(trained, tmp_path / "run")
        line[1] = tmp_path / folder
        result = nastool(*line)
        assert result.exit_code == 2
        assert said in result.stderr


def test_a_folder_of_something_else_is_left_alone(trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    result = nastool(*words(trained, tmp_path))
    assert result.exit_code == 2
    assert "--to: expected a new folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["thesis.tex"]


def campaign(net, folder, plan, bound="params<=5200"):
    from nastool_supernets.corpus.corpus import fixed_masks, load_corpus
    from nastool_supernets.shrinking.campaign import Campaign

    corpus = load_corpus(folder / "net" / "corpus")
    parts = [fixed_masks(corpus, part, 4, 0, "causal-lm") for part in ("train", "held_out")]
    return lambda to: Campaign(net, [parse_constraint(bound)], to, plan, *parts)


def test_stopped_at_any_moment_it_goes_on_as_if_it_never_was(trained, tmp_path):
    from nastool_supernets.saved import load_supernet
    from nastool_supernets.shrinking.campaign import Plan

    net = load_supernet(trained / "net")
    plan = Plan(levels=1, blocks=2, first=3, rounds=2, shapes=2, check=2)
    made = campaign(net, trained, plan)
    (tmp_path / "whole").mkdir()
    whole = made(tmp_path / "whole")
    expected = whole.run()
    table = (tmp_path / "whole" / "measured.csv").read_text()

    class StoppedError(Exception):
        pass

    for moment in itertools.count(1):
        (tmp_path / "parts").mkdir(exist_ok=True)
        calls = itertools.count(1)

        def told(*_, calls=calls, moment=moment):
            if next(calls) == moment:
                raise StoppedError

        part = made(tmp_path / "parts")
        part.told = told
        try:
            found = part.run()
        except StoppedError:
            continue
        break
    assert moment > 3
    assert (tmp_path / "parts" / "measured.csv").read_text() == table
    assert np.array_equal(found.genotypes, expected.genotypes)
    assert np.array_equal(found.checked, expected.checked)
    assert found.chosen == expected.chosen


def test_a_front_is_of_measured_shapes_within_reach(trained, tmp_path):
    from nastool_supernets.measuring.perplexities import perplexities
    from nastool_supernets.saved import load_supernet
    from nastool_supernets.shrinking.campaign import Plan

    net = load_supernet(trained / "net")
    plan = Plan(levels=2, blocks=4, first=9, rounds=1, shapes=9, check=4)
    run = campaign(net, trained, plan)(tmp_path)
    front = run.run()
    every = net.space.enumerate()
    costs = net.space.costs["params"].evaluate(every)
    losses = np.log(perplexities(net, *run.text, [tuple(g) for g in every.tolist()]))
    best = losses[costs <= 5200].min()
    finalists = {tuple(g) for g in every[costs <= 5200].tolist()}
    assert tuple(front.genotypes[front.chosen].tolist()) in finalists
    # The space is small enough that the search has seen the best of it.
    assert front.losses[front.costs <= 5200].min() == pytest.approx(best, rel=1e-6)
    assert np.all(np.diff(front.costs) >= 0)


def test_blocks_teach_their_own_factors():
    from nastool_supernets.shrinking.blocks import BlockModel, one_block_changes, optimum
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(8, 4)
    rng = np.random.default_rng(1)
    effects = np.sort(rng.gamma(1, 0.1, (8, 4)), axis=1)[:, ::-1]
    effects -= effects[:, -1:]
    factors = rng.uniform(1, 3, 8)

    def alone(genotypes):
        return 3 + effects[np.arange(8), genotypes].sum(axis=1)

    def together(genotypes):
        return 3 + (factors * effects[np.arange(8), genotypes]).sum(axis=1)

    changed = one_block_changes(space)
    assert len(changed) == 1 + 8 * 3
    assert changed[0].tolist() == space.largest.tolist()
    none = np.empty((0, 8), dtype=np.int64)
    plain = BlockModel.fit(space, changed, alone(changed), none, np.empty(0))
    drawn = space.sample(60, rng)
    np.testing.assert_allclose(plain.form().predict(drawn), alone(drawn), rtol=1e-10)
    taught = BlockModel.fit(space, changed, alone(changed), drawn, together(drawn))
    new = space.sample(50, rng)
    np.testing.assert_allclose(taught.form().predict(new), together(new), rtol=0.02)
    one, other = (taught.form(np.random.default_rng(s)) for s in (1, 1))
    assert np.array_equal(one.predict(new), other.predict(new))
    bounds = [parse_constraint("params<=9000"), parse_constraint("cache<=9000")]
    every = space.enumerate()
    keeps = np.all([space.costs[b.metric].evaluate(every) <= b.bound for b in bounds], axis=0)
    best = optimum(space, taught.form(), bounds)
    assert best.values[0] == pytest.approx(taught.form().predict(every[keeps]).min())
    with pytest.raises(InfeasibleError):
        optimum(space, taught.form(), [parse_constraint("params<=1")])
    with pytest.raises(InvalidInputError, match="plain numbers"):
        optimum(space, taught.form(), [parse_constraint("params<=1MB")])


def test_shapes_that_tell_no_genes_apart_leave_something_to_draw():
    from nastool_supernets.shrinking.blocks import BlockModel, one_block_changes, optimum
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(12, 4)
    rng = np.random.default_rng(4)
    effects = np.sort(rng.gamma(1, 0.1, (12, 4)), axis=1)[:, ::-1]
    effects -= effects[:, -1:]

    def losses(genotypes, factor):
        return 3 + factor * effects[np.arange(12), genotypes].sum(axis=1)

    changed, assembled = one_block_changes(space), space.sample(24, rng)
    # One factor explains all that was assembled.
    model = BlockModel.fit(space, changed, losses(changed, 1.0), assembled, losses(assembled, 1.5))
    new = space.sample(50, rng)
    np.testing.assert_allclose(model.form().predict(new), losses(new, 1.5), rtol=1e-3)
    bound = [parse_constraint(f"params<={np.median(space.costs['params'].evaluate(new))}")]
    best = optimum(space, model.form(), bound).genotypes[0]
    drawn = [optimum(space, model.form(rng, 16.0), bound).genotypes[0] for _ in range(20)]
    assert len({row.tobytes() for row in drawn}) > 10
    assert len({int(place) for row in drawn for place in np.flatnonzero(row != best)}) > 6


def test_what_a_search_would_pick_of_noisy_scores_is_not_believed():
    from nastool_supernets.shrinking.blocks import BlockModel, one_block_changes
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(20, 4)
    rng = np.random.default_rng(2)
    place = np.arange(20)
    effects = np.sort(rng.gamma(1, 0.1, (20, 4)), axis=1)[:, ::-1]
    effects -= effects[:, -1:]
    noisy = effects + rng.normal(0, 0.15, effects.shape)
    noisy[:, -1] = 0

    def truth(genotypes):
        above = effects[place, genotypes].sum(axis=1)
        return 3 + above + 0.2 * above**2

    changed = one_block_changes(space)
    scores = 3 + noisy[place, changed].sum(axis=1)
    drawn, new = space.sample(60, rng), space.sample(50, rng)
    model = BlockModel.fit(space, changed, scores, drawn, truth(drawn))
    best = np.array([[int(np.argmin(terms)) for terms in noisy]])
    assert model.plain().predict(best)[0] < 3 < truth(best)[0]
    # The model is off by less than a tenth of what they lose, with no more than noise in common.
    off = (model.form().predict(new) - truth(new)) / (truth(new) - 3)
    assert np.abs(off).mean() < 0.15
    assert abs(off.mean()) < 0.05
    assert abs(model.form().predict(best)[0] / truth(best)[0] - 1) < 0.2
    for form in (model.form(), model.form(np.random.default_rng(0))):
        assert all(np.all(np.diff(terms) <= 1e-12) and terms[-1] == 0 for terms in form.terms)


@pytest.mark.parametrize("odd", [0, 1])
def test_shapes_that_lose_nothing_at_all_are_fitted(odd):
    from nastool_supernets.shrinking.blocks import BlockModel, one_block_changes
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(12, 4)
    changed, assembled = one_block_changes(space), space.sample(24, np.random.default_rng(0))
    losses = np.full(24, 3.0)
    losses[:odd] += 1
    model = BlockModel.fit(space, changed, np.full(len(changed), 3.0), assembled, losses)
    np.testing.assert_allclose(model.form().predict(assembled[1:]), 3.0, atol=0.02)


def test_uniform_shapes_of_many_kinds_are_not_counted_beyond_64_bits():
    from nastool.space import Gene
    from nastool_supernets.shrinking.blocks import uniform_shapes
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(32, 4)
    space.genes = tuple(Gene(f"gene_{i}", tuple(range(i, i + 4))) for i in range(32))
    assert uniform_shapes(space).tolist() == [space.largest.tolist()]


def test_a_net_of_one_shape_leaves_nothing_to_choose():
    from types import SimpleNamespace

    from nastool_supernets.shrinking.planning import make_plan
    from tests.nastool.exact.test_separable import Blocks

    text = (np.zeros((500, 16), int), np.zeros((500, 16), int))
    with pytest.raises(InvalidInputError, match="expected a net of several shapes"):
        make_plan(SimpleNamespace(space=Blocks(3, 1)), text, text, 0.01, 100.0, 0)


def test_what_is_no_number_is_read_back(tmp_path):
    from nastool_supernets.shrinking.measured import Row, read_rows, write_rows
    from tests.nastool.exact.test_separable import Blocks

    losses = {(0, 0, 0): float("nan"), (1, 0, 1): float("inf"), (1, 1, 1): 2.5}
    rows = {genotype: Row(1, float("nan"), loss) for genotype, loss in losses.items()}
    write_rows(tmp_path / "measured.csv", Blocks(3, 2), rows)
    read = read_rows(tmp_path / "measured.csv", Blocks(3, 2))
    np.testing.assert_equal({g: row.loss for g, row in read.items()}, losses)


def test_shapes_without_a_finite_loss_are_told(trained, tmp_path, monkeypatch):
    from nastool_supernets.saved import load_supernet
    from nastool_supernets.shrinking import campaign as module
    from nastool_supernets.shrinking.campaign import Plan

    measured = module.perplexities

    def broken(net, ids, labels, genotypes):
        found = measured(net, ids, labels, genotypes)
        sizes = net.space.costs["params"].evaluate(np.array(genotypes))
        return np.where(sizes <= 5200, np.nan, found)

    monkeypatch.setattr(module, "perplexities", broken)
    net = load_supernet(trained / "net")
    made = campaign(net, trained, Plan(levels=2, blocks=2, first=9, rounds=1, shapes=9, check=2))
    for _ in "again":
        with pytest.raises(NastoolError, match="within the bounds has a finite loss"):
            made(tmp_path).run()


def test_counts_are_written_in_full(trained, tmp_path):
    from types import SimpleNamespace

    from nastool.space import ChainCost
    from nastool_supernets.cli.shrink_report import write_front
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(2, 2)
    terms = np.array([123_456_789_012, 123_456_789_013])
    costs = {
        "flops": ChainCost("flops", terms, (np.zeros((2, 2)),)),
        "latency": ChainCost("latency", np.array([0.25, 0.125]), (np.zeros((2, 2)),), "s"),
    }
    one, far = np.zeros(1), np.array([1000.0])
    front = SimpleNamespace(
        genotypes=np.array([[1, 0]]), losses=one, checked=one, predicted=far, chosen=0
    )
    write_front(tmp_path / "front.csv", SimpleNamespace(space=space), front, costs)
    (row,) = table_of(tmp_path / "front.csv")
    assert (row["flops"], row["latency"]) == ("123456789013", "0.125")
    # What is predicted beyond all floats is no traceback.
    assert (row["perplexity"], row["predicted"]) == ("1", "inf")


def test_draws_near_a_shape_change_so_many_genes_and_no_more():
    from nastool.predictors.separable import Separable
    from nastool_supernets.shrinking.blocks import optimum
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(8, 4)
    rng = np.random.default_rng(3)
    form = Separable(tuple(rng.normal(size=(8, 4))))
    start = tuple(space.sample(1, rng)[0].tolist())
    every = space.enumerate()
    keeps = space.costs["params"].evaluate(every) <= 9000
    near = (every != np.array(start)).sum(axis=1) <= 2
    found = optimum(space, form, [parse_constraint("params<=9000")], (start, 2))
    assert (found.genotypes[0] != np.array(start)).sum() <= 2
    assert found.values[0] == pytest.approx(form.predict(every[keeps & near]).min())


@pytest.mark.parametrize("apart", [True, False])
def test_costs_that_tell_neighbours_not_apart_are_bounded_as_others_are(apart):
    from nastool.predictors.separable import Separable
    from nastool.space import ChainCost
    from nastool_supernets.shrinking.blocks import optimum
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(6, 4)
    rng = np.random.default_rng(4)
    for cost in list(space.costs.values()):
        # What a layer of two genes has, whatever both of them are.
        steps = [
            step + rng.integers(0, 900, step.shape) if i % 2 == 0 or not apart else step
            for i, step in enumerate(cost.steps)
        ]
        space.costs[cost.name] = ChainCost(cost.name, cost.first, tuple(steps))
    form = Separable(tuple(rng.normal(size=(6, 4))))
    start = tuple(space.sample(1, rng)[0].tolist())
    every = space.enumerate()
    bounds = [parse_constraint("params<=9500"), parse_constraint("cache<=9700")]
    keeps = [space.costs[b.metric].evaluate(every) <= b.bound for b in bounds]
    assert 0 < np.sum(keeps[0] & keeps[1]) < np.sum(keeps[0]) < len(every)
    near = (every != np.array(start)).sum(axis=1) <= 3
    for wanted, kept in ((bounds[:1], keeps[0]), (bounds, keeps[0] & keeps[1])):
        for around in (None, (start, 3)):
            within = kept if around is None else kept & near
            found = optimum(space, form, wanted, around)
            assert found.values[0] == pytest.approx(form.predict(every[within]).min())
            assert found.genotypes[0].tolist() in every[within].tolist()


@pytest.fixture
def llama(tmp_path):
    """A folder with a tiny checkpoint of transformers and a text for it."""
    tokenizers = pytest.importorskip("tokenizers")
    rng = np.random.default_rng(0)
    letters = [f"{a}{b}" for a in "bdfgk" for b in "aeio"]
    (tmp_path / "text.txt").write_text(
        "\n\n".join(" ".join(rng.choice(letters, 30)) for _ in range(60))
    )
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="<unk>"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=special)
    own.train_from_iterator([" ".join(letters)], trainer)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=own.get_vocab_size(), **sizes)
    folder = tmp_path / "checkpoint"
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return tmp_path


def test_a_checkpoint_of_transformers_becomes_a_smaller_one(llama):
    tmp_path, folder = llama, llama / "checkpoint"
    run = ["shrink", folder, "--text", tmp_path / "text.txt", "--to", tmp_path / "run"]
    run += ["--max=params=3500", "--recover-steps=2", "--sequence-length=16", "--device=cpu"]
    run += ["--rank-steps=1"]
    planned(tmp_path / "run", first=14, rounds=1, shapes=12)
    result = CliRunner().invoke(main, [*map(str, run)])
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    (chosen,) = [r for r in table_of(tmp_path / "run" / "front.csv") if r["chosen"] == "1"]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "run" / "model", trust_remote_code=True
    )
    assert sum(p.numel() for p in model.parameters()) == float(chosen["params"]) <= 3500
    learning = "Recovery, beside --minutes: 2 steps of the chosen shape and 1 steps of each of 8"
    assert f"{learning} shapes: " in result.stderr
    assert not (tmp_path / "run" / ".probe").exists()
    # It ships in the precision of the checkpoint.
    assert model.dtype == torch.bfloat16
    assert "Order before and 1 steps of distillation later" in result.stdout
    assert "(8 shapes); the best one before is number " in result.stdout
    ranked = table_of(tmp_path / "run" / "recovery.csv")
    measured = {r["shape"]: float(r["loss"]) for r in table_of(tmp_path / "run" / "measured.csv")}
    assert len({row["shape"] for row in ranked} & measured.keys()) == 8
    assert all(row["perplexity"] != row["recovered_perplexity"] for row in ranked)
    assert not list((tmp_path / "run" / "ranking").iterdir())
    # Once known, it is not done again.
    again = CliRunner().invoke(main, [*map(str, run)])
    assert again.stdout.splitlines()[-2:] == result.stdout.splitlines()[-2:]
    assert "most likely tokens" not in again.stderr
    assert "Recovery, beside" not in again.stderr
    assert "taught by it" in (tmp_path / "run" / "model" / "README.md").read_text()
    longer = CliRunner().invoke(main, [*map(str, run), "--recover-steps=3"])
    assert longer.exit_code == 2
    assert "model has learnt for 2 steps, got 3: remove it and" in longer.stderr


def test_a_recovery_that_was_stopped_is_not_taken_for_a_whole_one(llama, monkeypatch):
    import threading
    from contextlib import contextmanager

    from nastool_supernets.training import pretraining

    @contextmanager
    def stopped():
        """A signal after the second step."""
        looks = itertools.count()
        stop = threading.Event()
        stop.is_set = lambda: next(looks) >= 2
        yield stop

    def run(name):
        words = ["shrink", llama / "checkpoint", "--text", llama / "text.txt", "--to", llama / name]
        words += ["--max=params=3500", "--recover-steps=4", "--sequence-length=16", "--device=cpu"]
        return CliRunner().invoke(main, [*map(str, words)])

    for name in ("whole", "parts"):
        planned(llama / name, first=9, rounds=1, shapes=9)
    assert run("whole").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "stop_signals", stopped)
        result = run("parts")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    assert not (llama / "parts" / "model").exists()
    assert run("parts").exit_code == 0
    weights = [
        (llama / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


def test_a_slip_in_what_is_read_costs_no_folder(llama):
    run = ["shrink", llama / "checkpoint", "--to", llama / "run", "--max=params=4k", "--device=cpu"]
    (llama / "whole.txt").write_text((llama / "text.txt").read_text().replace("\n\n", " "))
    for text, length, said in (
        ("none.txt", 16, "found none"),
        ("text.txt", 512, "expected at most 32 tokens"),
    ):
        words = [*run, "--text", llama / text, f"--sequence-length={length}"]
        refused = CliRunner().invoke(main, [*map(str, words)])
        assert refused.exit_code == 2
        assert said in refused.stderr
    words = [*run, "--text", llama / "text.txt", "--sequence-length=16", "--dry-run"]
    assert CliRunner().invoke(main, [*map(str, words)]).exit_code == 0
    # What was imported is that of one text.
    words[words.index(llama / "text.txt")] = llama / "whole.txt"
    other = CliRunner().invoke(main, [*map(str, words)])
    assert "--text: the run in" in other.stderr
    words[words.index(llama / "run")] = llama / "other"
    alone = CliRunner().invoke(main, [*map(str, words)])
    assert alone.exit_code == 2
    assert "blocks with too few documents to hold some out" in alone.stderr


@pytest.fixture
def clock(monkeypatch):
    """A device whose passes take what the weights of a shape say, and 1 ms for the next token."""
    from nastool.devices import Device, Timing

    class Clock(Device):
        times_following = True
        facts = {"clock": 1}  # noqa: RUF012 - a property elsewhere

        def measure(self, deployment, warmup, repeats):
            weights = sum(p.numel() for p in deployment.module.parameters())
            is_text = "attention_mask" in deployment.inputs
            return Timing(np.full(repeats, weights * (1e-6 if is_text else 1e-7)))

    monkeypatch.setattr("nastool.plugins.load_device", lambda *_: Clock())


def test_a_bound_on_a_latency_is_kept_where_it_is_measured(llama, clock):
    run = ["shrink", llama / "checkpoint", "--text", llama / "text.txt", "--to", llama / "run"]
    run += ["--max=latency.decode=0.35ms", "--max=params=4k", "--sequence-length=16", "--context=8"]
    run += ["--device=cpu"]
    planned(llama / "run", first=14, rounds=1, shapes=12)
    result = CliRunner().invoke(main, [*map(str, run)])
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    assert "context 8" in result.stderr
    assert "decode: " in result.stdout
    (chosen,) = [r for r in table_of(llama / "run" / "front.csv") if r["chosen"] == "1"]
    assert float(chosen["params"]) * 1e-7 <= 0.35e-3
    # What all weights add up to, a sum over genes tells exactly.
    assert float(chosen["latency.decode"]) == pytest.approx(float(chosen["params"]) * 1e-7)
    assert "latency.decode" in (llama / "run" / "model" / "README.md").read_text()
    known = json.loads((llama / "run" / "latency.json").read_text())
    assert max(known["errors"].values()) < 1e-6
    assert chosen["shape"] in known["measured"]
    kept = (llama / "run" / "latency.json").read_text()
    for damaged in (
        {"terms": None},
        {"terms": {"prefill": [1]}},
        {"errors": {}},
        {"measured": []},
        {"terms": {**known["terms"], "decode": [1.0, [[0.1]]]}},
    ):
        (llama / "run" / "latency.json").write_text(json.dumps(known | damaged))
        refused = CliRunner().invoke(main, [*map(str, run)])
        assert refused.exit_code == 2
        assert "latency.json: expected latencies, remove it to time them again" in refused.stderr
    # Of another net it says nothing.
    other = known | {"space": "other", "terms": {}}
    (llama / "run" / "latency.json").write_text(json.dumps(other))
    assert CliRunner().invoke(main, [*map(str, run)]).exit_code == 0
    assert json.loads((llama / "run" / "latency.json").read_text())["terms"] == known["terms"]
    (llama / "run" / "latency.json").write_text(kept)


def test_shapes_that_keep_no_bound_where_they_run_can_be_timed_anew(llama, clock, monkeypatch):
    from nastool_supernets.cli.serving import Serving

    run = ["shrink", llama / "checkpoint", "--text", llama / "text.txt", "--to", llama / "run"]
    run += ["--max=latency=1s", "--sequence-length=16", "--context=8", "--device=cpu:0"]
    planned(llama / "run", first=9, rounds=1, shapes=9)
    with monkeypatch.context() as patch:
        patch.setattr(Serving, "keeps", lambda *_: False)
        refused = CliRunner().invoke(main, [*map(str, run)])
    assert refused.exit_code == 2
    assert f"or remove {llama / 'run' / 'latency.json'} to time anew" in refused.stderr
    (llama / "run" / "latency.json").unlink()
    result = CliRunner().invoke(main, [*map(str, run)])
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    assert "on cpu:0, 1 threads, batch 1, context 8" in result.stdout


def test_a_bound_that_cannot_be_kept_is_told_before_a_checkpoint_is_read(llama, clock):
    run = ["shrink", llama / "checkpoint", "--text", llama / "text.txt", "--to", llama / "run"]
    run += ["--device=cpu", "--sequence-length=16", "--context=8"]
    (llama / "checkpoint" / "model.safetensors").unlink()
    for bound, said in (
        ("latency.decode=1us", "no shape of decoder"),
        ("latency=3", "a time such as 20ms"),
        ("latency=3MB", "a time such as 20ms"),
        ("latency.encode=3ms", "'latency.encode' must be one of params"),
        ("params=10", "no shape of decoder"),
        ("params=5ms", "params is in plain numbers"),
    ):
        result = CliRunner().invoke(main, [*map(str, run), "--max", bound])
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert not (llama / "run" / "net").exists()


def test_noise_makes_no_shape_faster_than_nothing():
    from nastool_supernets.shrinking.serving import Served, _fit
    from tests.nastool.exact.test_separable import Blocks

    space = Blocks(6, 4)
    rng = np.random.default_rng(0)
    shapes = np.concatenate([space.largest[None], space.smallest[None], space.sample(30, rng)])
    exact = 2e-3 + 1e-3 * shapes.sum(axis=1)
    for noise, tolerance in ((0.0, 1e-3), (0.05, 0.05)):
        seconds = exact * np.exp(rng.normal(0, noise, len(shapes)))
        cost = Served({"prefill": _fit(space, shapes, seconds)}, {}).costs(space)["latency"]
        np.testing.assert_allclose(cost.evaluate(shapes), exact, rtol=tolerance * 2)
    wild = exact * np.exp(rng.normal(0, 2, len(shapes)))
    cost = Served({"prefill": _fit(space, shapes, wild)}, {}).costs(space)["latency"]
    every = space.enumerate()
    assert cost.evaluate(every).min() >= -1e-15
    # What does more takes no less.
    more = np.minimum(every + 1, 3)
    assert np.all(cost.evaluate(more) >= cost.evaluate(every) - 1e-12)


def test_shapes_are_not_chosen_by_what_is_only_believed(trained, tmp_path):
    from nastool_supernets.saved import load_supernet
    from nastool_supernets.shrinking.campaign import Plan

    net = load_supernet(trained / "net")
    made = campaign(net, trained, Plan(levels=2, blocks=2, first=9, rounds=1, shapes=9, check=2))
    run = made(tmp_path)
    asked = []
    run.keeps = lambda genotype: asked.append(genotype) or len(asked) == 2
    front = run.run()
    assert tuple(front.genotypes[front.chosen].tolist()) == asked[1] != asked[0]
    run.keeps = lambda _: False
    with pytest.raises(InfeasibleError, match="where they are measured"):
        run.run()


def test_what_was_refused_or_only_looked_at_can_be_asked_for_anew(trained, tmp_path):
    words = ["shrink", str(trained / "net"), "--text", str(trained / "text.txt")]
    words += ["--sequence-length", "16", "--to", str(tmp_path / "run")]
    bound = ["--max", "params=1M"]
    for bound_of, said in (
        ("latency=20ms", "must define `deploy`"),
        ("speed=3", "'speed' must be one of params"),
    ):
        refused = nastool(*words, "--max", bound_of)
        assert refused.exit_code == 2
        assert said in refused.output
    assert nastool(*words, *bound, "--minutes", "5", "--dry-run").exit_code == 0
    first = json.loads((tmp_path / "run" / "plan.json").read_text())
    done = nastool(*words, *bound, "--minutes", "5", "--seed", "3", "--dry-run")
    assert done.exit_code == 0
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["seed"] == 3 != first["seed"]
    other = nastool(*words[:-4], *bound, "--sequence-length", "8", "--to", str(tmp_path / "run"))
    assert "--sequence-length: the run in" in other.output
    # A plan is that of a run, or nothing.
    plan = tmp_path / "run" / "plan.json"
    kept = plan.read_text()
    for damaged in ({}, {**first, "more": 1}, {**first, "blocks": "2"}, {**first, "blocks": 0}):
        plan.write_text(json.dumps(damaged))
        refused = nastool(*words, *bound, "--minutes", "5", "--seed", "3", "--dry-run")
        assert refused.exit_code == 2
        assert f"{plan}: expected the plan of a run: " in refused.stderr
    plan.write_text(kept)
    # Once something is measured, all of it holds.
    (tmp_path / "run" / "measured.csv").write_text("shape\n")
    late = nastool(*words, *bound, "--minutes", "5", "--seed", "4", "--dry-run")
    assert "--seed: the run in" in late.output
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["seed"] == 3


def test_a_plan_keeps_to_its_time_and_the_least_is_the_same_whatever_was_given(trained):
    from nastool_supernets.saved import load_supernet
    from nastool_supernets.shrinking.planning import expected, make_plan

    net = load_supernet(trained / "net")
    text = (np.zeros((500, 16), int), np.zeros((500, 16), int))
    for seconds in (20.0, 100.0, 1000.0):
        plan = make_plan(net, text, text, 0.01, seconds, 0)
        assert expected(net, plan, 0.01) <= 1.25 * seconds
    told = set()
    for seconds in (0.1, 0.2, 0.4):
        with pytest.raises(InvalidInputError, match="expected at least") as caught:
            make_plan(net, text, text, 0.01, seconds, 0)
        told.add(str(caught.value).partition(", got")[0])
    assert len(told) == 1
