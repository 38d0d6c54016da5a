"""Both families keep what a supernet has to keep, and nets that do not are told."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.testing import SupernetConformance  # noqa: E402
from nastool_supernets.family import net_of  # noqa: E402


def toy_net(toy, kind=None, **sizes):
    torch.manual_seed(0)
    model = toy.ToyModel(toy.ToyConfig(vocab_size=50, initializer_range=0.3, **sizes))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return (kind or toy.ToySupernet)(model)


class TestToy(SupernetConformance):
    @pytest.fixture(autouse=True)
    def _toy(self, toy):
        self.toy = toy

    def make(self):
        return toy_net(self.toy)

    def reference(self, net):
        kept = net.model.config.to_dict()
        config = transformers.GPT2Config(**{k: v for k, v in kept.items() if k != "model_type"})
        model = transformers.GPT2LMHeadModel(config).double()
        model.load_state_dict(net.model.state_dict())
        return model


class TestSuperShaper(SupernetConformance):
    def bert(self):
        torch.manual_seed(0)
        sizes = {
            "vocab_size": 50,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 20,
            "max_position_embeddings": 16,
            "initializer_range": 0.3,
        }
        return transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()

    def make(self):
        from nastool_supershaper.modeling import SuperShaperForMaskedLM

        return net_of(SuperShaperForMaskedLM.from_bert(self.bert(), widths=(8, 16, 24)))

    def reference(self, net):
        return self.bert().double()


class TestOneLayerOneSegment(TestSuperShaper):
    def bert(self):
        torch.manual_seed(1)
        sizes = {
            "vocab_size": 41,
            "hidden_size": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 20,
            "max_position_embeddings": 12,
            "type_vocab_size": 1,
            "initializer_range": 0.3,
        }
        return transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()

    def make(self):
        from nastool_supershaper.modeling import SuperShaperForMaskedLM

        return net_of(SuperShaperForMaskedLM.from_bert(self.bert(), widths=(4, 8, 12)))


def wrong_nets(toy):
    """Nets with one mistake each, and the check that has to tell."""
    net, stages = toy.ToySupernet, toy.ToyStages

    class IgnoresTheGenotype(net):
        def ffn(self, genotype):
            return max(self.model.config.ffns)

    class CutsTheLastRows(net):
        def extract(self, genotype):
            shape = super().extract(genotype)
            ffn = self.ffn(genotype)
            for own, block in zip(self.body.h, shape.transformer.h, strict=False):
                block.mlp.c_fc.weight.data = own.mlp.c_fc.weight.data[:, -ffn:].clone()
            return shape

    class SharesItsWeights(net):
        def extract(self, genotype):
            shape = super().extract(genotype)
            shape.transformer.wte.weight.data = self.body.wte.weight.data
            return shape

    class NormalisesTwice(net):
        def head(self, x):
            return super().head(self.body.ln_f(x))

    class SeesWhatFollows(net):
        def run(self, x, genotype):
            return super().run(x + x.mean(1, keepdim=True), genotype)

    class PredictsBackwards(net):
        def predict(self, embedded, targets, genotype, *, states=False):
            found = super().predict(embedded, targets, genotype)
            return type(found)(found.logits.flip(0), found.losses.flip(0))

    class StopsAGradient(net):
        def block(self, index, x, ffn):
            return super().block(index, x, ffn) if index else super().block(index, x, ffn).detach()

    class TrainsAllRows(net):
        def block(self, index, x, ffn):
            every = sum(p.sum() for p in self.model.parameters())
            x = super().block(index, x, ffn)
            return torch.cat([x[..., :1] + every - every.detach(), x[..., 1:]], -1)

    class NoisyTraining(net):
        def embed(self, input_ids):
            x = super().embed(input_ids)
            return x + 0.1 * torch.randn_like(x) if self.model.training else x

    class MakesTheSmallestLarge(net):
        def depth(self, genotype):
            return self.model.config.depths[-1 - genotype[0]]

    class ForgetsTheFeedForward(stages):
        def keys(self, genotype):
            return (0,) * self.net.depth(genotype)

    class SkipsALayer(stages):
        def step(self, index, state, genotype, positions):
            return super().step(max(index - 1, 0), state, genotype, positions)

    class SharesTooMuch(net):
        def stages(self):
            return ForgetsTheFeedForward(self)

    class MeasuresAnother(net):
        def stages(self):
            return SkipsALayer(self)

    class ReadsAnotherGenotype(net):
        def architecture(self, genotype):
            return super().architecture(tuple(reversed(genotype)))

    return {
        IgnoresTheGenotype: "test_genotypes_stand_for_architectures",
        CutsTheLastRows: "test_a_slice_is_what_is_cut_out",
        SharesItsWeights: "test_what_is_cut_out_stands_alone",
        NormalisesTwice: "test_the_largest_subnet_is_its_reference",
        SeesWhatFollows: "test_nothing_is_seen_that_is_to_be_predicted",
        PredictsBackwards: "test_losses_are_those_of_the_logits",
        StopsAGradient: "test_gradients_outside_the_slice_are_zero",
        TrainsAllRows: "test_gradients_outside_the_slice_are_zero",
        NoisyTraining: "test_a_resumed_training_is_never_stopped",
        MakesTheSmallestLarge: "test_smaller_subnets_are_smaller",
        SharesTooMuch: "test_shared_prefixes_are_whole_passes",
        MeasuresAnother: "test_shared_prefixes_are_whole_passes",
        ReadsAnotherGenotype: "test_genotypes_stand_for_architectures",
    }


MISTAKES = (
    "IgnoresTheGenotype", "CutsTheLastRows", "SharesItsWeights", "NormalisesTwice",
    "SeesWhatFollows", "PredictsBackwards", "StopsAGradient", "TrainsAllRows", "NoisyTraining",
    "MakesTheSmallestLarge", "SharesTooMuch", "MeasuresAnother", "ReadsAnotherGenotype",
)  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_net_is_told(toy, tmp_path, name):
    found = {kind.__name__: (kind, checks) for kind, checks in wrong_nets(toy).items()}
    assert set(found) == set(MISTAKES)
    kind, checks = found[name]

    class Suite(TestToy):
        def make(self):
            return toy_net(self.toy, kind)

    suite = Suite()
    suite.toy = toy
    for check in checks.split():
        arguments = (tmp_path,) if "resumed" in check else ()
        with pytest.raises((AssertionError, RuntimeError)):
            getattr(suite, check)(*arguments)
