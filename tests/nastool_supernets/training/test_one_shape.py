"""One shape alone trains as a plain loop of torch would, goes on, learns, and is a model."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM

import nastool
from nastool.errors import InvalidInputError
from nastool_supernets.cli.pretrain import pretrain as pretrain_command
from nastool_supernets.corpus.corpus import prepare_corpus
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import Batches, apply_fixed, random_generator
from nastool_supernets.corpus.text import TextFile
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from nastool_supernets.family import net_of
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.saved import latest_checkpoint, load_shape
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.pace import Pace, measured_pace, steps_within
from nastool_supernets.training.pretraining import pretrain
from nastool_supernets.training.report import Evaluation
from nastool_supernets.training.rules import Distillation, OneShape, Subnet
from nastool_supernets.training.teaching import Teacher, load_teacher
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from tests.supershaped import tiny_net

MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
BLOCKS = random_generator(0, 9, 0).integers(5, 60, (50, 16)).astype(np.uint16)
SHAPE = (8, 4)
CONFIG = PretrainingConfig(
    steps=6,
    batch_size=4,
    learning_rate=1e-3,
    warmup_steps=2,
    rule=OneShape(SHAPE),
    log_every=1,
    evaluate_every=0,
    checkpoint_every=2,
    dtype="float32",
    peak_flops=1e9,
)
TAUGHT = replace(CONFIG, distillation=Distillation(0.3, 2.0), distil_hidden=0.7)


def supernet(seed=0, vocabulary=60):
    return tiny_net(seed, vocab_size=vocabulary)


def bert(layers=3, size=8, vocabulary=60):
    torch.manual_seed(5)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=size,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=16,
            initializer_range=0.3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def taught_by_bert(model):
    return Teacher(bert(), net_of(model), hidden=True)


def train(folder, config=CONFIG, model=None, **options):
    model = model or supernet().extract(SHAPE)
    if config.distillation is not None:
        options.setdefault("teacher", taught_by_bert(model))
    return model, pretrain(net_of(model), BLOCKS, MASKING, config, folder, trackers=(), **options)


def test_training_is_a_plain_loop_of_torch(tmp_path):
    config = replace(CONFIG, clip_norm=0.5, bottleneck_rate=2.0, head_rate=3.0)
    model, _ = train(tmp_path, config)
    plain = supernet().extract(SHAPE).train()
    groups = [
        {"params": [p], "rate": rate, "weight_decay": 0.01 if p.ndim > 1 else 0.0}
        for name, p in plain.named_parameters()
        for rate in [3.0 if name.startswith("head.") else 2.0 if "bottleneck" in name else 1.0]
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    batches = Batches(BLOCKS, replace(MASKING, rate=0.15), 4, 0)
    for step in range(6):
        ids, labels = map(torch.as_tensor, batches.batch(step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * group["rate"] * (1 / 2, 1, 1, 3 / 4, 1 / 2, 1 / 4)[step]
        optimizer.zero_grad()
        plain(ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("config", [CONFIG, TAUGHT])
def test_stopped_and_resumed_is_never_stopped(tmp_path, config):
    whole, _ = train(tmp_path / "whole", config)
    stop = lambda report: report.step == 3 and os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    _, first = train(tmp_path / "cut", config, on_step=stop)
    assert (first.step, first.finished) == (3, False)
    model, second = train(tmp_path / "cut", config)
    assert second.finished
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    checkpoints = [latest_checkpoint(tmp_path / n / "checkpoints").path for n in ("whole", "cut")]
    for file in checkpoints[0].glob("*.safetensors"):
        old, new = load_file(file), load_file(checkpoints[1] / file.name)
        assert all(torch.equal(old[key], new[key]) for key in old | new)


@pytest.mark.parametrize("micro", [None, 3])
def test_what_a_teacher_teaches_is_its_closed_form(micro):
    model = supernet().extract(SHAPE).train()
    teacher = taught_by_bert(model)
    ids, labels = apply_fixed(BLOCKS[:5], MASKING, 1)
    losses = accumulate_gradients(
        net_of(model),
        ids,
        labels,
        [Subnet("subnet", ())],
        micro,
        distillation=Distillation(0.3, 2.0),
        teacher=teacher,
        distil_hidden=0.7,
    )
    found = [p.grad.clone() for p in (*model.parameters(), *teacher.maps.parameters())]
    model.zero_grad(), teacher.maps.zero_grad()
    ids, labels = torch.as_tensor(ids), torch.as_tensor(labels)
    ours = model(ids, output_hidden_states=True)
    with torch.no_grad():
        theirs = bert().eval()(ids, output_hidden_states=True)
    masked = labels != -100
    entropy = F.cross_entropy(ours.logits[masked], labels[masked])
    target = (theirs.logits[masked] / 2).softmax(-1)
    soft = (ours.logits[masked] / 2).log_softmax(-1)
    divergence = 4 * (target * (target.log() - soft)).sum(-1).mean()
    # Two layers beside three: the first beside the second, the last beside the last. The first one
    # is as wide as the teacher and needs no map.
    first = (ours.hidden_states[1] - theirs.hidden_states[2]).square().mean()
    last = (teacher.maps[1](ours.hidden_states[2]) - theirs.hidden_states[3]).square().mean()
    loss = 0.7 * entropy + 0.3 * divergence + 0.7 * (first + last) / 2
    loss.backward()
    assert losses.tolist() == pytest.approx([entropy.item()], rel=1e-5)
    parameters = (*model.parameters(), *teacher.maps.parameters())
    for ours, parameter in zip(found, parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_perplexity_is_that_of_the_shape_in_its_supernet():
    net = supernet()
    ids, labels = apply_fixed(BLOCKS, MASKING, 1)
    within = net_of(net)
    inside = perplexities(within, ids, labels, [within.genotype(SHAPE)])
    alone = perplexities(net_of(net.extract(SHAPE)), ids, labels, [()])
    assert alone == pytest.approx(inside, rel=1e-5)


def test_rule_shape_and_teacher_belong_together(tmp_path):
    model = supernet().extract(SHAPE)
    with pytest.raises(InvalidInputError, match="by the rule of that shape"):
        pretrain(net_of(model), BLOCKS, MASKING, replace(CONFIG, rule=OneShape((4, 4))), tmp_path)
    with pytest.raises(InvalidInputError, match="got no teacher"):
        pretrain(net_of(model), BLOCKS, MASKING, TAUGHT, tmp_path)
    with pytest.raises(InvalidInputError, match="got a teacher alone"):
        pretrain(net_of(model), BLOCKS, MASKING, CONFIG, tmp_path, teacher=taught_by_bert(model))


def test_rates_of_a_head_stage_of_its_own():
    config = PretrainingConfig(
        steps=30, warmup_steps=4, head_steps=10, head_learning_rate=1e-3, learning_rate=1e-2
    )
    rates = [config.peak_rate(step) * config.rate_factor(step) for step in range(31)]
    assert rates[:3] == pytest.approx([5e-4, 1e-3, 1e-3])
    assert rates[9] == pytest.approx(1e-3 / 8)
    assert rates[10:15] == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    assert rates[29:] == pytest.approx([1e-2 / 16, 0])


class TestPace:
    def test_the_most_steps_that_fit(self):
        pace = Pace(step=1.0, head_step=0.5, evaluation=3.0, checkpoint=2.0)
        config = PretrainingConfig(steps=10, head_steps=4, evaluate_every=5, checkpoint_every=5)
        # 6 steps, 4 of the head stage, evaluations at 5 and 10, checkpoints too, and the model.
        assert pace.seconds(config) == 6 + 2 + 2 * 3 + 2 * 2 + 2

        def of(steps):
            return replace(config, steps=steps)

        assert pace.steps_within(20.0, of) == 10
        assert pace.steps_within(19.9, of) == 9
        assert pace.steps_within(3.0, of) == 0

    @pytest.mark.parametrize("alone", [False, True])
    def test_measuring_changes_nothing(self, tmp_path, alone):
        net = supernet()
        model = net.extract(SHAPE) if alone else net
        before = {name: p.clone() for name, p in model.named_parameters()}
        torch.manual_seed(3)
        steps = steps_within(
            30.0,
            net_of(model),
            BLOCKS,
            MASKING,
            lambda n: replace(CONFIG if alone else PretrainingConfig(batch_size=4), steps=n),
            tmp_path,
        )
        drawn = torch.rand(3)
        assert steps >= 1
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        assert all(p.grad is None for p in model.parameters())
        assert not list(tmp_path.iterdir())
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(3))

    @pytest.mark.parametrize(("slow", "steps"), [(100.0, 2), (4.0, 4), (0.1, 10)])
    def test_measuring_takes_little_of_the_time(self, tmp_path, monkeypatch, slow, steps):
        """By a clock of its own: two slow steps are enough, and an eighth of an evaluation."""
        clock = SimpleNamespace(now=0.0, steps=0)

        def step(run, number, input_ids, labels):
            clock.now += slow
            clock.steps += 1

        def evaluate(run, evaluation):
            clock.now += len(evaluation.input_ids)

        now = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
        monkeypatch.setattr("nastool_supernets.training.pace.time", now)
        monkeypatch.setattr("nastool_supernets.training.pace.Run.step", step)
        monkeypatch.setattr("nastool_supernets.training.pace.Run.evaluate", evaluate)
        evaluation = Evaluation(BLOCKS[:20], BLOCKS[:20])
        pace = measured_pace(
            300.0, net_of(supernet()), BLOCKS, MASKING, CONFIG, tmp_path, evaluation=evaluation
        )
        assert clock.steps == steps
        assert pace == Pace(pytest.approx(slow), pytest.approx(slow), 20.0, 0.0)
        assert clock.now == pytest.approx(steps * slow + 3)

    def test_no_time_is_said(self, tmp_path):
        with pytest.raises(InvalidInputError, match="expected time for at least one step"):
            steps_within(
                1e-6,
                net_of(supernet()),
                BLOCKS,
                MASKING,
                lambda n: PretrainingConfig(steps=n),
                tmp_path,
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    words = [f"w{i}" for i in range(40)]
    generator = np.random.default_rng(0)
    lines = [json.dumps({"text": " ".join(generator.choice(words, 30))}) for _ in range(200)]
    (place / "text.jsonl").write_text("\n".join(lines))
    source = TextFile(place / "text.jsonl")
    tokenizer = train_tokenizer([source], 100)
    prepare_corpus([source], tokenizer, place / "corpus", sequence_length=16, held_out=0.1)
    size = load_tokenizer(place / "corpus" / "tokenizer")
    bert(vocabulary=len(size)).save_pretrained(place / "bert")
    save_tokenizer(tokenizer, place / "bert")
    return place


@pytest.fixture(scope="module")
def ranked(place):
    """A store whose study ranks all shapes by parameters, their texts, and the fifth's count."""
    SuperShaperForMaskedLM.from_bert(str(place / "bert"), widths=(4, 8)).save_pretrained(
        place / "net"
    )
    storage, space = f"sqlite:///{place / 'studies.db'}", f"supershaper:{place / 'net'}"
    found = nastool.search(
        space, ["params"], strategy="random", budget=8, store=storage, study="mine"
    )
    rows = found.listed().genotypes
    return storage, found.problem.space.texts(rows), int(found.values(rows)["params"][4])


class TestCommand:
    def run(self, place, *arguments):
        options = ["--preset", "smoke", "--corpus", str(place / "corpus"), "--dtype", "float32"]
        options += ["--steps", "4", "--peak-flops", "1e9", "--tracker", "none"]
        result = CliRunner().invoke(pretrain_command, [*options, *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def test_from_a_bert_with_a_teacher_to_a_model(self, place, tmp_path):
        self.run(
            place, "--bert", place / "bert", "--widths", "4,8", "--shape", "8-4-8",
            "--teacher", place / "bert", "--distil-hidden", "0.5", "--output", tmp_path / "one",
        )  # fmt: skip
        model = load_shape(tmp_path / "one")
        assert model.config.shape == [8, 4, 8]
        assert (tmp_path / "one" / "shaped_bert.py").is_file()
        card = json.loads((tmp_path / "one" / "run.json").read_text())
        assert card["config"]["rule"] == {"name": "OneShape", "shape": [8, 4, 8]}
        assert card["config"]["distil_hidden"] == 0.5
        assert card["config"]["distillation"] == {"mix": 0.5, "temperature": 1.0}
        # What is known of the run needs no option again, the teacher's folder included.
        result = self.run(place, "--resume", "--output", tmp_path / "one")
        assert "Trained 4 steps" in result.output
        with pytest.raises(InvalidInputError, match="the run trains 8-4-8, got 8-8-8"):
            self.run(place, "--resume", "--shape", "8-8-8", "--output", tmp_path / "one")

    def test_a_teacher_of_another_vocabulary_is_refused(self, place, tmp_path):
        other = tmp_path / "other"
        bert(vocabulary=90).save_pretrained(other)
        (tmp_path / "text.txt").write_text("other words than those\n\n" * 50)
        save_tokenizer(train_tokenizer([TextFile(tmp_path / "text.txt")], 100), other)
        with pytest.raises(InvalidInputError, match="--teacher: expected the tokenizer of the"):
            self.run(
                place, "--config", "tiny", "--shape", "16-16",
                "--teacher", other, "--output", tmp_path / "one",
            )  # fmt: skip
        assert not (tmp_path / "one" / "checkpoints").exists()

    def test_random_weights_and_no_teacher(self, place, tmp_path):
        self.run(place, "--config", "tiny", "--shape", "smallest", "--output", tmp_path / "one")
        assert load_shape(tmp_path / "one").config.shape == [16, 16]
        assert load_teacher(tmp_path / "one").model.config.shape == [16, 16]

    @pytest.mark.parametrize("named", ["knee", "1", "3", "smallest", "largest", "params>=BOUND"])
    def test_a_shape_is_named_by_a_study(self, place, ranked, tmp_path, named):
        """The study ranks all eight shapes by parameters; so its knee is its first row."""
        storage, texts, bound = ranked
        shape = {
            "knee": texts[0],
            "1": texts[0],
            "3": texts[2],
            "smallest": "4-4-4",
            "largest": "8-8-8",
            "params>=BOUND": texts[4],
        }[named]
        self.run(
            place, "--bert", place / "bert", "--widths", "4,8", "--steps", "0",
            "--storage", storage, "--study", "mine", "--output", tmp_path / "one",
            "--shape", named.replace("BOUND", str(bound)),
        )  # fmt: skip
        assert "-".join(map(str, load_shape(tmp_path / "one").config.shape)) == shape

    def test_a_study_without_a_shape_and_a_shape_that_it_has_not(self, place, ranked, tmp_path):
        start = (place, "--bert", place / "bert", "--widths", "4,8", "--output", tmp_path / "one")
        study = ("--storage", ranked[0], "--study", "mine")
        for options, message in (
            ((), "--study: expected --shape beside it"),
            (("--shape", "9"), "--shape: expected the number of a row from 1 to 8, got 9"),
            (("--shape", "params<=1"), "--shape: .*params<=1"),
            (("--shape", "macs<=1ms"), "--shape: macs<=1ms: .* got a bound in s"),
            (("--shape", "nearest"), "expected widths or one of smallest, largest, knee"),
        ):
            with pytest.raises(InvalidInputError, match=message):
                self.run(*start, *study, *options)
        assert not (tmp_path / "one").exists()

    def test_a_time_sets_the_steps(self, place, tmp_path):
        result = CliRunner().invoke(
            pretrain_command,
            [
                "--preset", "smoke", "--corpus", str(place / "corpus"), "--max-time", "6s",
                "--config", "tiny", "--peak-flops", "1e9", "--tracker", "none",
                "--checkpoint-every", "1000", "--output", str(tmp_path / "net"),
            ],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        card = json.loads((tmp_path / "net" / "run.json").read_text())
        last = json.loads((tmp_path / "net" / "log.jsonl").read_text().splitlines()[-1])
        assert last["step"] == card["config"]["steps"]
        assert card["origin"]["max_time"] == 6.0
        again = CliRunner().invoke(
            pretrain_command,
            ["--max-time", "18s", "--resume", "--output", str(tmp_path / "net"),
             "--corpus", str(place / "corpus"), "--tracker", "none"],
        )  # fmt: skip
        assert f"keeps its {last['step']:,} steps" in again.output
