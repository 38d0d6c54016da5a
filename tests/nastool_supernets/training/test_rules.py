"""Sampling by size, distillation, compilation, utilisation and tracking of a training run."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nastool.errors import InvalidInputError
from nastool.space import Gene, SearchSpace
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import random_generator
from nastool_supernets.family import net_of
from nastool_supernets.training import teaching
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.rules import (
    Distillation,
    RandomOnly,
    Runs,
    Sandwich,
    SizeAware,
    Subnet,
)
from nastool_supernets.training.utilisation import measure_peak_flops, training_flops
from nastool_supershaper.space import SuperShaperSpace
from tests.supershaped import tiny_net

WIDTHS = (4, 6, 8, 10, 12, 14, 16)
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
IDS, LABELS = MASKING.apply(
    random_generator(0, 9, 0).integers(5, 60, (6, 16)), random_generator(0, 0, 0)
)
SUBNETS = [Subnet("largest", (6,) * 3), Subnet("smallest", (0,) * 3), Subnet("random", (2, 0, 4))]


def tiny(widths=WIDTHS):
    return tiny_net(hidden_size=widths[-1], num_hidden_layers=3, widths=widths)


def space(layers, widths=WIDTHS):
    return SuperShaperSpace(layers=layers, widths=widths, heads=2)


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


class TestSizeAware:
    def test_sizes_are_spread_evenly(self):
        generator = np.random.default_rng(0)
        widths = np.array(WIDTHS)
        deep = space(12)
        shapes = widths[[SizeAware().draw(deep, generator) for _ in range(2000)]]
        uniform = widths[deep.sample(2000, generator)]
        assert set(shapes.flat) == set(WIDTHS)
        means, of_uniform = shapes.mean(1), uniform.mean(1)
        assert means.mean() == pytest.approx(10, abs=0.3)
        # Of an even spread a sixth lies in each sixth of the range; uniform widths hardly get
        # out of the middle two.
        ends = [((x < 6) | (x > 14)).mean() for x in (means, of_uniform)]
        assert ends[0] == pytest.approx(1 / 3, abs=0.06)
        assert ends[1] < 0.01

    def test_deterministic_and_one_width_is_enough(self):
        draws = [SizeAware().draw(space(5), np.random.default_rng(3)) for _ in range(2)]
        assert draws[0] == draws[1]
        assert SizeAware().draw(space(2, (8,)), np.random.default_rng(0)) == (0, 0)

    def test_rules_draw_by_it(self):
        for rule in (Sandwich(2, SizeAware()), RandomOnly(2, SizeAware())):
            drawn = rule.subnets(space(3), np.random.default_rng(1))[-2:]
            generator = np.random.default_rng(1)
            assert [s.genotype for s in drawn] == [
                SizeAware().draw(space(3), generator) for _ in range(2)
            ]


class TestRuns:
    def test_each_layer_is_even_and_neighbours_are_alike_as_often_as_not(self):
        generator = np.random.default_rng(0)
        deep = space(12)
        drawn = np.array([Runs().draw(deep, generator) for _ in range(4000)])
        n = len(WIDTHS)
        for layer in drawn.T:
            assert np.bincount(layer, minlength=n) / 4000 == pytest.approx([1 / n] * n, abs=0.04)
        # A repeat has probability p, uniform in [0, 1]; a fresh draw is equal in 1 / n.
        alike = (drawn[:, 1:] == drawn[:, :-1]).mean(1)
        assert alike.mean() == pytest.approx(1 / 2 + 1 / (2 * n), abs=0.02)
        # All 11 by repeats: the mean of p^11 is 1 / 12; independent draws give n^-11.
        assert (alike == 1).mean() == pytest.approx(
            np.mean([(p + (1 - p) / n) ** 11 for p in np.linspace(0, 1, 2001)]), abs=0.02
        )

    def test_genes_repeat_those_of_their_own_kind(self):
        class Two(SearchSpace):
            genes = tuple(
                Gene(f"{name}_{i}", choices)
                for i in range(3)
                for name, choices in (("heads", (1, 2)), ("ffn", (8, 16, 32, 64)))
            )

        generator, two = np.random.default_rng(1), Two()
        drawn = np.array([Runs().draw(two, generator) for _ in range(2000)])
        assert set(drawn[:, 1::2].flat) == {0, 1, 2, 3}
        alike = drawn[:, 2:] == drawn[:, :-2]
        assert alike[:, ::2].mean() == pytest.approx(1 / 2 + 1 / 4, abs=0.03)
        assert alike[:, 1::2].mean() == pytest.approx(1 / 2 + 1 / 8, abs=0.03)

    def test_deterministic_and_rules_draw_by_it(self):
        for rule in (Sandwich(2, Runs()), RandomOnly(2, Runs())):
            drawn = rule.subnets(space(3), np.random.default_rng(1))[-2:]
            generator = np.random.default_rng(1)
            assert [s.genotype for s in drawn] == [Runs().draw(space(3), generator) for _ in "ab"]


class TestDistillation:
    @pytest.mark.parametrize("micro", [None, 4])
    def test_gradients_are_those_of_the_definition(self, micro):
        model = tiny().double()
        rule = Distillation(mix=0.3, temperature=2.0)
        losses = accumulate_gradients(net_of(model), IDS, LABELS, SUBNETS, micro, distillation=rule)
        found = gradients(model)
        known = torch.from_numpy(LABELS) != -100
        targets = torch.from_numpy(LABELS)[known]
        ids = torch.from_numpy(IDS)
        total, teacher = 0, None
        for subnet, loss in zip(SUBNETS, losses.tolist(), strict=True):
            logits = model(ids, shape=[WIDTHS[i] for i in subnet.genotype]).logits[known]
            entropy = F.cross_entropy(logits, targets)
            assert loss == pytest.approx(entropy.item(), rel=1e-9)  # comparable with other rules
            if teacher is None:
                teacher = (logits.detach() / 2).softmax(-1)
                total = entropy
            else:
                student = (logits / 2).log_softmax(-1)
                divergence = (teacher * (teacher.log() - student)).sum(-1).mean()
                total = total + 0.7 * entropy + 0.3 * 4 * divergence
        total.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("micro", [None, 4])
    def test_hidden_states_of_the_largest_teach_the_others(self, micro):
        model = tiny().double()
        accumulate_gradients(net_of(model), IDS, LABELS, SUBNETS, micro, distil_hidden=0.7)
        found = gradients(model)
        known = torch.from_numpy(LABELS) != -100
        ids, targets = torch.from_numpy(IDS), torch.from_numpy(LABELS)[known]
        total, taught = 0, None
        for subnet in SUBNETS:
            shape = [WIDTHS[i] for i in subnet.genotype]
            logits = model(ids, shape=shape).logits[known]
            total = total + F.cross_entropy(logits, targets)
            hidden, states = model.supershaper.embed(ids), []
            for index, width in enumerate(shape[:-1]):
                hidden = model.supershaper.run_layer(index, hidden, width)
                states.append(hidden)
            if taught is None:
                taught = [state.detach() for state in states]
            else:
                pairs = zip(states, taught, strict=True)
                total = total + 0.7 * sum((a - b).square().mean() for a, b in pairs) / 2
        total.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("settings", [{"mix": 0}, {"mix": 1.1}, {"temperature": 0}])
    def test_bad_input_is_named(self, settings):
        with pytest.raises(InvalidInputError, match=next(iter(settings))):
            Distillation(**settings)


def test_lessons_are_compiled_where_layers_are(monkeypatch):
    plain, model = tiny().train(), tiny().train()
    made = []
    # In place of torch.compile, which takes a minute.
    monkeypatch.setattr(teaching, "_compiled", lambda f: made.append(f.__name__) or f)
    rules = {"distillation": Distillation(0.3, 2.0), "distil_hidden": 0.7}
    expected = accumulate_gradients(net_of(plain), IDS, LABELS, SUBNETS, **rules)
    assert made == []
    found = accumulate_gradients(net_of(model), IDS, LABELS, SUBNETS, compiled=True, **rules)
    assert torch.equal(found, expected)
    assert made == ["_divergence", "_mean_distance"] * (len(SUBNETS) - 1)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


# The compiler itself looks at gradients of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_share_a_graph_per_width(checkpointing):
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    # Two graphs of each are more than the compiler keeps unless it is told to.
    widths = WIDTHS[2:]
    model, plain = tiny(widths).train(), tiny(widths).train()
    reset()
    counters.clear()
    model.supershaper.compile_layers(backend="eager")
    model.supershaper.gradient_checkpointing = checkpointing

    def step(genotypes):
        subnets = [Subnet("random", tuple(genotype)) for genotype in genotypes]
        losses = accumulate_gradients(net_of(model), IDS, LABELS, subnets)
        return losses, accumulate_gradients(net_of(plain), IDS, LABELS, subnets)

    try:
        # Every width in a layer, and every width in the last one.
        step([(index,) * 3 for index in range(len(widths))])
        assert counters["stats"]["unique_graphs"] == 2 * len(widths)
        generator = np.random.default_rng(0)
        compiled, eager = step(space(3, widths).sample(12, generator).tolist())
        assert counters["stats"]["unique_graphs"] == 2 * len(widths)
        assert not counters["graph_break"]
    finally:
        reset()
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=0)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, plain.get_parameter(name).grad, rtol=1e-4, atol=1e-6)


class TestUtilisation:
    @pytest.mark.parametrize("shape", [(16, 32, 16), (32, 16, 32)])
    def test_count_is_that_of_the_products(self, shape):
        model = tiny(widths=(16, 32))  # heads in multiples of 8: nothing is padded
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
            torch.no_grad(),
        ):
            model(torch.from_numpy(IDS), labels=torch.from_numpy(LABELS), shape=shape)
        # Beside what is counted runs the merging of the bottlenecks, once a pass.
        merging = sum(2 * 32 * a * b for a, b in pairwise(shape))
        net, n_masked = net_of(model), int((LABELS != -100).sum())
        genotype = net.genotype(shape)
        counted = net.flops(genotype, 6, 16, n_masked)
        assert counted == counter.get_total_flops() - merging
        assert training_flops(net, [genotype] * 2, 6, 16, n_masked) == 6 * counted

    def test_peak_is_measured(self):
        assert 1e7 < measure_peak_flops(torch.device("cpu"), "float32") < 1e14
