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
