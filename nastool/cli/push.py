"""``nastool push``: predictors, supernets, devices and studies on the Hugging Face hub."""

from __future__ import annotations

import click

from nastool.cli.options import storage_option
from nastool.cli.pages import help_page


@help_page(
    "nastool push predictor me/perplexity-of-mine",
    "nastool push net me/my-supernet --private",
    "nastool push under-66M me/under-66M",
)
@click.command()
@click.argument("what", metavar="WHAT")
@click.argument("repository", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Keep it private; a public one there is refused.")
@storage_option
def push(what: str, repository: str, private: bool, storage: str) -> None:
    """Publish WHAT on the Hugging Face hub, with a card.

    WHAT is the folder of a predictor, a supernet, a shape or a device, or the name of a study.
    hf://USER/NAME then names it wherever a folder, or a store (--storage), may be named.
    """
    from nastool.integrations.publishing import publish

    click.echo(publish(what, repository, private=private, store=storage))
