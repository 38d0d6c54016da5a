"""A family of supernets in one file: GPT-2 of some depths and feed-forward sizes, causal."""

from pathlib import Path

import click
import numpy as np
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from transformers import GPT2Config, GPT2LMHeadModel

from nastool.files.reading import read_json_object
from nastool.plugins import register_space
from nastool.space import ChainCost, Gene, SearchSpace
from nastool_supernets.family import Family, register_family
from nastool_supernets.supernet import Prediction, Stages, Supernet, cross_entropies


class ToyConfig(GPT2Config):
    model_type = "toy"

    def __init__(self, depths=(1, 2, 3), ffns=(8, 16, 24), **sizes):
        self.depths, self.ffns = list(depths), list(ffns)
        own = {"n_layer": max(depths), "n_inner": max(ffns), "n_embd": 16, "n_head": 2}
        own |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        own |= {"bos_token_id": None, "eos_token_id": None, "n_positions": 64, "use_cache": False}
        super().__init__(**own | sizes)


class ToyModel(GPT2LMHeadModel):
    config_class = ToyConfig


class ToySpace(SearchSpace):
    name = "toy"

    def __init__(self, config):
        self.config, self.name = config, f"toy[{config.n_embd},{config.vocab_size}]"

    @property
    def genes(self):
        choices = {"depth": self.config.depths, "ffn": self.config.ffns}
        return tuple(Gene(name, tuple(given), ordered=True) for name, given in choices.items())

    @property
    def costs(self):
        config, depths, ffns = self.config, *map(np.array, (self.config.depths, self.config.ffns))
        d = config.n_embd
        around = (config.vocab_size + config.n_positions + 2) * d + depths * (4 * d * d + 8 * d)
        layers = depths[:, None] * (ffns * (2 * d + 1) + d)
        return {"params": ChainCost("params", around, (layers,))}


class ToySupernet(Supernet):
    task = "causal-lm"

    def __init__(self, model):
        super().__init__(model, ToySpace(model.config))
        self.body = model.transformer

    def depth(self, genotype):
        return self.space.config.depths[genotype[0]]

    def ffn(self, genotype):
        return self.space.config.ffns[genotype[1]]

    def prepare(self, *, compiled, checkpointing): ...

    def embed(self, input_ids):
        return self.body.wte(input_ids) + self.body.wpe.weight[: input_ids.shape[1]]

    def block(self, index, x, ffn):
        block = self.body.h[index]
        fc, proj = block.mlp.c_fc, block.mlp.c_proj
        x = x + block.attn(block.ln_1(x))[0]
        inner = block.mlp.act(block.ln_2(x) @ fc.weight[:, :ffn] + fc.bias[:ffn])
        return x + inner @ proj.weight[:ffn] + proj.bias

    def head(self, x):
        return F.linear(self.body.ln_f(x), self.body.wte.weight)

    def run(self, x, genotype):
        for index in range(self.depth(genotype)):
            x = self.block(index, x, self.ffn(genotype))
        return x

    def predict(self, embedded, targets, genotype, *, states=False):
        logits = self.head(targets.take(self.run(embedded, genotype)))
        return Prediction(logits, cross_entropies(logits, targets.tokens))

    def logits(self, inputs, genotype):
        return self.head(self.run(self.embed(inputs["input_ids"]), genotype))

    def stages(self):
        return ToyStages(self)

    def extract(self, genotype):
        depth, ffn = self.depth(genotype), self.ffn(genotype)
        own = ("model_type", "depths", "ffns", "architectures")
        kept = {k: v for k, v in self.model.config.to_dict().items() if k not in own}
        shape = GPT2LMHeadModel(GPT2Config(**kept | {"n_layer": depth, "n_inner": ffn}))
        for name, target in shape.named_parameters():
            places = tuple(slice(n) for n in target.shape)
            target.data = self.model.get_parameter(name).detach()[places].clone()
        return shape.train(self.model.training)


class ToyStages(Stages):
    def __init__(self, net):
        self.net = net

    def keys(self, genotype):
        return (genotype[1],) * self.net.depth(genotype)

    def embed(self, input_ids):
        return self.net.embed(input_ids)

    def step(self, index, state, genotype, positions):
        x, at = self.net.block(index, state, self.net.ffn(genotype)), positions
        return x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))

    def losses(self, state, genotype, targets):
        return cross_entropies(self.net.head(targets.select(state)), targets.tokens)


@register_family
class Toy(Family):
    name, shape_type, model_class = "toy", "gpt2", ToyModel
    heads, sizes = ("causal-lm",), {"toy-tiny": {}}

    def space(self, config):
        return ToySpace(ToyConfig(**config))

    def net(self, model):
        return ToySupernet(model)

    def options(self):
        return [click.Option(["--depths"], metavar="N,N", help="Depths a shape may have.")]

    def sized(self, size, options, vocabulary):
        depths = [int(text) for text in (options["depths"] or "1,2,3").split(",")]
        return ToyConfig(depths, vocab_size=vocabulary)

    def shape_of(self, model):
        return model.config.n_layer, model.config.n_inner


@register_space("toy")
def create(argument):
    return Toy().space(read_json_object(Path(argument) / "config.json"))
