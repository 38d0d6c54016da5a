"""What one shape that trains alone learns from a teacher: its predictions, and its hidden states.

The teacher is a supernet's largest subnet or any other masked language model that reads the same
tokens. Where its hidden states have another size, a linear map that is trained along, and left out
of what is saved as the model, takes the student's there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool_supernets.corpus.identity import describe_tokenizer
from nastool_supernets.corpus.targets import Targets
from nastool_supernets.corpus.tokenizer import load_tokenizer, vocabulary_size
from nastool_supernets.family import find_family, is_known, net_of
from nastool_supernets.genotypes import row
from nastool_supernets.positions import positions_of
from nastool_supernets.runtime.precision import autocast
from nastool_supernets.supernet import SingleShape
from nastool_supernets.training.shortlists import KeptLessons, Shortlist, shortlist_divergence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerFast


class Lesson(NamedTuple):
    """A teacher's predictions at the targets, and every layer's hidden states (B, T, D).

    Predictions are logits (n, V), or the most likely tokens of what is kept on disk.
    """

    logits: Tensor | Shortlist
    states: Sequence[Tensor]


class Teacher:
    """A model to learn from, and the maps to its hidden states.

    Args:
        model: Any masked language model of transformers; it is left as it is.
        student: The shape that learns.
        hidden: Whether hidden states are compared, too.

    Attributes:
        kept: What it has predicted before, where that is kept; None where it is asked each time.
        maps: From the student's hidden states to the teacher's, layer by layer, trained along;
            empty where hidden states are not compared.
    """

    def __init__(
        self, model: PreTrainedModel, student: SingleShape, *, hidden: bool = False
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self._net = net_of(self.model) if is_known(model.config.model_type) else None
        self.maps = nn.ModuleList()
        self._hidden = hidden
        self.kept: KeptLessons | None = None
        if hidden:
            own = student.state_sizes()
            self._sources, sizes = self._pairs(len(own))
            pairs = zip(own, sizes, strict=True)
            # Drawn from a seed of its own: a run with maps starts from the weights of one without.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.maps.extend(
                    nn.Identity() if width == size else nn.Linear(width, size)
                    for width, size in pairs
                )
        self.maps.to(student.model.device)

    def _pairs(self, depth: int) -> tuple[list[int], list[int]]:
        """The teacher's layer (from 1) for each of the student's, and its size."""
        config = self.model.config
        if self._net is None:
            sizes = [config.hidden_size] * config.num_hidden_layers
        else:
            sizes = self._net.state_sizes()
        check_depth(depth, len(sizes))
        # Evenly spread, the last one beside the last one.
        layers = [-(-(i + 1) * len(sizes) // depth) for i in range(depth)]
        return layers, [sizes[layer - 1] for layer in layers]

    @torch.no_grad()
    def lesson(self, input_ids: Tensor, labels: Tensor, dtype: str) -> Lesson:
        """Run the teacher on one batch.

        Args:
            input_ids: Masked tokens, (B, T).
            labels: Original tokens where masked, -100 elsewhere, (B, T).
            dtype: ``float32`` or ``bfloat16``.
        """
        if self.kept is None:
            return self._asked(input_ids, labels, dtype)

        def ask(ids: Tensor, wanted: Tensor) -> Tensor:
            return cast("Tensor", self._asked(ids, wanted, dtype).logits)

        return Lesson(self.kept.lesson(input_ids, labels, ask), ())

    def _asked(self, input_ids: Tensor, labels: Tensor, dtype: str) -> Lesson:
        with autocast(input_ids.device.type, dtype):
            if self._net is not None:
                found = self._net.predict(
                    self._net.embed(input_ids), Targets.of(labels), (), states=self._hidden
                )
                return Lesson(found.logits, found.states)
            output = self.model(input_ids=input_ids, output_hidden_states=self._hidden)
        states = output.hidden_states[1:] if self._hidden else ()
        return Lesson(output.logits[labels != -100], states)

    def distance(self, states: Sequence[Tensor], lesson: Lesson) -> Tensor:
        """Mean squared difference of hidden states, over layers, tokens and dimensions.

        Args:
            states: The student's after every layer, (B, T, h_i) each.
            lesson: The teacher's on the same batch.
        """
        mapped = [to(state.float()) for to, state in zip(self.maps, states, strict=True)]
        return mean_distance(mapped, [lesson.states[source - 1] for source in self._sources])


def check_depth(*depths: int) -> None:
    """Raise InvalidInputError where one of the numbers of hidden states to compare is 0."""
    if not all(depths):
        raise InvalidInputError(
            "distil_hidden: expected hidden states of a layer, or of a supernet what one hands on "
            "to the next, got none"
        )


def mean_distance(
    states: Sequence[Tensor], taught: Sequence[Tensor], *, compiled: bool = False
) -> Tensor:
    """Mean squared difference of hidden states, over layers, tokens and dimensions.

    Args:
        states: Those of who learns, (B, T, D) each.
        taught: Those of who teaches, as many and as large.
        compiled: Whether torch compiles it.

    Raises:
        InvalidInputError: There is no layer to compare.
    """
    check_depth(len(states))
    run = _compiled(_mean_distance) if compiled else _mean_distance
    return run(list(states), list(taught))


def _mean_distance(states: list[Tensor], taught: list[Tensor]) -> Tensor:
    losses = [
        F.mse_loss(_at_least_single(ours), _at_least_single(theirs))
        for ours, theirs in zip(states, taught, strict=True)
    ]
    return torch.stack(losses).mean()


def _at_least_single(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def divergence(
    student: Tensor, teacher: Tensor | Shortlist, temperature: float, *, compiled: bool = False
) -> Tensor:
    """Mean KL(teacher || student) of softened predictions, (n_masked, V) each, times T squared.

    The square keeps the gradients as large as those of the cross-entropy (Hinton et al., 2015). Of
    vocabularies that are padded to different sizes, what both have counts.

    Args:
        student: Logits of who learns.
        teacher: Logits of who teaches, or the most likely tokens of them.
        temperature: Divides the logits of both.
        compiled: Whether torch compiles it, for whole logits.
    """
    if isinstance(teacher, Shortlist):
        return shortlist_divergence(student, teacher, temperature)
    run = _compiled(_divergence) if compiled else _divergence
    return run(student, teacher, temperature)


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    size = min(student.shape[-1], teacher.shape[-1])
    soft, target = (
        F.log_softmax(_at_least_single(x[:, :size]) / temperature, -1) for x in (student, teacher)
    )
    total = F.kl_div(soft, target, reduction="sum", log_target=True)
    return total * temperature**2 / max(1, len(student))


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function compiled: one pass over what eager kernels read and write several times."""
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False)
    return compiled


@dataclass(frozen=True)
class Lessons:
    """A teacher that is loaded, before it is known whom it teaches.

    Args:
        folder: Where it lies.
        model: The masked language model.
        tokenizer: Its tokenizer.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    def check(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Check that the teacher's tokens are those of the training text.

        Args:
            tokenizer: That of the training text.

        Raises:
            InvalidInputError: If they are others: the ids would mean other words.
        """
        mine, other = describe_tokenizer(tokenizer), describe_tokenizer(self.tokenizer)
        if different := [n for n in ("vocabulary", "special tokens") if mine[n] != other[n]]:
            raise InvalidInputError(
                f"--teacher: expected the tokenizer of the training text, {self.folder} has other "
                f"{' and '.join(different)}"
            )

    def teacher(
        self,
        student: SingleShape,
        tokenizer: PreTrainedTokenizerFast,
        length: int,
        hidden: bool,
    ) -> Teacher:
        """Return the teacher of one shape.

        Args:
            student: The shape, on its device.
            tokenizer: That of the training text.
            length: Tokens a block.
            hidden: Whether hidden states are compared.

        Raises:
            InvalidInputError: If the teacher cannot read the text.
        """
        self.check(tokenizer)
        known = is_known(self.model.config.model_type)
        task = net_of(self.model).task if known else "masked-lm"
        if task != student.task:
            raise InvalidInputError(
                f"--teacher: expected a model that predicts as the shape does ({student.task}), "
                f"{self.folder} holds one for {task}"
            )
        if (positions := positions_of(self.model.config)) < length:
            raise InvalidInputError(
                f"--teacher: expected a model that reads blocks of {length} tokens, {self.folder} "
                f"reads {positions}"
            )
        model: Any = self.model.to(student.model.device)  # type: ignore[arg-type]
        return Teacher(model, student, hidden=hidden)

    def origin(self, *, is_new: bool) -> dict[str, str]:
        """Return what a run's teacher is known by; where it lies may change later.

        Args:
            is_new: Whether the run begins.
        """
        from nastool_supernets.measuring.perplexities import model_fingerprint

        known = {"teacher": model_fingerprint(cast("Any", self.model))}
        return known | ({"teacher_folder": str(self.folder.resolve())} if is_new else {})


def load_teacher(folder: Path) -> Lessons:
    """Load a language model to learn from, and its tokenizer.

    Args:
        folder: A supernet, whose largest subnet is taken; a deployed shape; or a folder of
            transformers with a masked language model, or with a checkpoint of a family.

    Raises:
        InvalidInputError: If there is none, or its tokenizer has more tokens than it.
    """
    if not is_folder(folder):
        raise InvalidInputError(f"--teacher: no such folder: {folder}")
    try:
        tokenizer = load_tokenizer(folder)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--teacher: expected a model with its tokenizer beside it: {error}"
        ) from error
    model = _load(folder)
    if (needed := vocabulary_size(tokenizer)) > model.config.vocab_size:
        raise InvalidInputError(
            f"--teacher: {folder} has a vocabulary of {model.config.vocab_size}, its tokenizer "
            f"{needed} tokens"
        )
    return Lessons(folder, model, tokenizer)


def _load(folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForMaskedLM

    from nastool_supernets.family import head_of
    from nastool_supernets.saved import load_shape, load_supernet

    kind = None
    if is_file(folder / "config.json"):
        kind = read_json_object(folder / "config.json").get("model_type")
    if kind is None or (is_known(kind) and find_family(kind).name == kind):
        supernet = load_supernet(folder)
        return supernet.extract(row(supernet.space.largest))
    if is_known(kind):
        deployed = load_shape(folder)
        if head_of(deployed) not in ("masked-lm", "causal-lm"):
            raise InvalidInputError(
                f"--teacher: expected a language model, {folder} has the head {head_of(deployed)}"
            )
        return deployed
    auto: Any = AutoModelForMaskedLM
    unread = f"--teacher: no masked language model can be read from {folder}"
    with one_line(unread, InvalidInputError):  # damaged files raise errors of many libraries
        model, loading = auto.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    if loading["missing_keys"]:
        raise InvalidInputError(
            f"--teacher: expected a masked language model, {folder} lacks "
            f"{min(loading['missing_keys'])}"
        )
    return cast("PreTrainedModel", model)
