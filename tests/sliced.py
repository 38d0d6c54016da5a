"""Supernets of small checkpoints, of whichever family slices them."""

import tempfile


def apart(model):
    """The same model with weights that are nowhere as they were made, biases and norms included."""
    import torch

    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model


def net_of_checkpoint(model, checkpoints, net_class, by, labels_of, choices):
    """The supernet of a checkpoint, as its family makes it of a folder, in an order."""
    import torch

    from nastool_supernets.slicing.ordering import order

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        made = net_class(
            checkpoints.supernet(
                folder, {f"{part}_choices": text for part, text in choices.items()}
            )
        )
    if by != "none":
        ids = torch.randint(5, 50, (4, 12), generator=torch.Generator().manual_seed(1))
        order(made, ids, labels_of(ids), by)
    return made


def byte_pairs(texts, size):
    """A tokenizer like RoBERTa's: pairs of bytes, and no space before the first word."""
    import tokenizers
    import transformers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", mask]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = tokenizers.processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    ends = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    rest = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": mask}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **ends, **rest)
