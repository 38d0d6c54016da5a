"""Passes by CUDA graphs: the same gradients, whoever runs what was captured."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import random_generator
from nastool_supernets.family import net_of
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.rules import Distillation, Subnet
from nastool_supershaper import graphs
from tests.supershaped import tiny_net

aten = torch.ops.aten
WIDTHS = (8, 16, 32)
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
IDS, LABELS = MASKING.apply(
    random_generator(0, 9, 0).integers(5, 60, (6, 16)), random_generator(0, 0, 0)
)
# Two of them take the largest width in the first layer, so that a graph runs twice in a step.
SUBNETS = {"largest": (2,) * 4, "smallest": (0,) * 4, "random": (2, 0, 2, 1)}
RULES = {"distillation": Distillation(0.3, 2.0), "distil_hidden": 0.7}
# Where nobody asks for hidden states, the bottlenecks between two layers are one map.
MERGED = {"distillation": Distillation(0.3, 2.0)}

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def supernet(device="cpu", layers=4):
    model = tiny_net(hidden_size=32, num_hidden_layers=layers, widths=WIDTHS)
    with torch.no_grad():
        for parameter in model.parameters():  # biases are new, which is zero
            parameter += 0.05 * torch.randn_like(parameter)
    return model.to(device).train()


def gradients(model, micro=None, dtype="float32", rules=RULES):
    """Of two steps, the second one from where the first one left the buffers."""
    layers = model.config.num_hidden_layers
    subnets = [Subnet(role, genotype[:layers]) for role, genotype in SUBNETS.items()]
    found = []
    for _ in range(2):
        losses = accumulate_gradients(net_of(model), IDS, LABELS, subnets, micro, dtype, **rules)
        found += [losses, *(p.grad.clone() for p in model.parameters())]
        for parameter in model.parameters():
            parameter.grad.zero_()
    return found


def flat(found):
    return torch.cat([x.double().flatten() for x in found])


class Repeated:
    """In place of a capture: what was to be captured runs again each time."""

    def __init__(self, device):
        pass

    def warm_up(self, *parts):
        for part in parts:
            part()

    def __call__(self, part):
        return part


@pytest.mark.parametrize(("micro", "rules"), [(None, RULES), (4, RULES), (4, MERGED)])
def test_passes_add_the_gradients_of_passes_without(monkeypatch, micro, rules):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model, micro, rules=rules)
    runs = []
    replay = graphs.LayerGraphs.replay
    monkeypatch.setattr(
        graphs.LayerGraphs, "replay", lambda *args: runs.append(args[2]) or replay(*args)
    )
    model.supershaper.capture(micro or len(IDS), 16, "float32")
    # The last layer, and the rest of a batch that is none of the captured size, run as ever.
    for ours, theirs in zip(gradients(model, micro, rules=rules), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)
    assert runs == [(32, 32, 32), (8, 8, 8), (32, 8, 32)] * 2
    # The same size again keeps what there is, and gradients that were dropped are summed again.
    kept = model.supershaper._graphs
    model.zero_grad()
    model.supershaper.capture(micro or len(IDS), 16, "float32")
    assert model.supershaper._graphs is kept
    for ours, theirs in zip(gradients(model, micro, rules=rules), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_few_layers_have_few_bottlenecks_between_them(monkeypatch, layers):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet(layers=layers)
    expected = gradients(model, rules=MERGED)
    model.supershaper.capture(len(IDS), 16, "float32")
    for ours, theirs in zip(gradients(model, rules=MERGED), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)


class Products(TorchDispatchMode):
    """Counts the multiplications of matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (aten.mm, aten.addmm, aten.bmm):
            self.count += args[-2].numel() * args[-1].shape[-1]
        return func(*args, **(kwargs or {}))


def test_bottlenecks_are_one_map_where_nobody_asks_for_the_states_between(monkeypatch):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    exact = flat(gradients(model, None, "float32", MERGED))
    expected = flat(gradients(model, None, "bfloat16", MERGED))
    model.supershaper.capture(len(IDS), 16, "bfloat16")
    # Rounded to 16 bits in another order, they are as near to those in single precision.
    found = flat(gradients(model, None, "bfloat16", MERGED))
    assert (found - exact).norm() <= 1.2 * (expected - exact).norm()
    counts = []
    for rules in (MERGED, RULES):
        with Products() as products:
            gradients(model, None, "bfloat16", rules)
        counts.append(products.count)
    assert counts[0] < counts[1]


def test_passes_in_16_bits_are_those_of_autocast_bit_by_bit(monkeypatch):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model, None, "bfloat16")
    model.supershaper.capture(len(IDS), 16, "bfloat16")
    names = ["losses", *(name for name, _ in model.named_parameters())] * 2
    for name, ours, theirs in zip(names, gradients(model, None, "bfloat16"), expected, strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_layers_share_a_graph_a_width(monkeypatch):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model)
    made = []

    def backend(module, inputs):
        made.append(len(inputs))
        return module

    model.compile_layers(backend)
    model.supershaper.capture(len(IDS), 16, "float32")
    # Three layers at each of three widths.
    assert len(made) == len(WIDTHS)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)
    # And the last layer's, which is outside of the graphs, and the scores of the vocabulary.
    assert len(made) == 2 * len(WIDTHS) + 1


@on_a_gpu
@pytest.mark.parametrize("rules", [RULES, MERGED], ids=["hidden", "merged"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_replays_the_gradients_of_passes_without(dtype, rules):
    model = supernet("cuda")
    expected = flat(gradients(model, None, dtype, rules))
    net_of(model).capture(len(IDS), 16, dtype)
    tolerance = 1e-4 if dtype == "float32" else 0.1
    difference = flat(gradients(model, None, dtype, rules)) - expected
    assert difference.norm() <= tolerance * expected.norm()


def test_bad_input_is_named():
    with pytest.raises(InvalidInputError, match="cuda_graphs: expected a CUDA device, got cpu"):
        net_of(supernet()).capture(4, 16, "float32")
    alone = net_of(supernet().extract((8,) * 4))
    with pytest.raises(InvalidInputError, match="expected a supernet that has them, got Shaped"):
        alone.capture(4, 16, "float32")
    with pytest.raises(InvalidInputError, match="cuda_graphs: expected no gradient_checkpointing"):
        replace(PretrainingConfig(), cuda_graphs=True, gradient_checkpointing=True)
