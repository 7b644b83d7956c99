# SPDX-License-Identifier: Apache-2.0
"""``e2train data``: data sets for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from e2train.cli.interrupt import ends_at_once

__all__ = ["app"]

app = typer.Typer(help="Download data sets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Download data sets."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cifar10 or cifar100.")],
    to: Annotated[Path, typer.Option(help="Folder to unpack into; pass it to e2train train as --data.")],
    url: Annotated[str | None, typer.Option(help="Another server's copy of the same archive.")] = None,
) -> None:
    """Download a data set and verify its checksum, unless its files are there already.

    An interrupted download is continued.
    """
    with ends_at_once():
        from e2train.train import DataError
        from e2train.train.data.fetch import SOURCES, is_there
        from e2train.train.data.fetch import fetch as download

    source = SOURCES.get(name)
    if source is None:
        raise DataError(f"no data set {name!r} to fetch; there are: {', '.join(SOURCES)}")
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise DataError(f"--url must begin with http:// or https://, not {url[:40]!r}")
        source = replace(source, url=url)
    if is_there(source, to):
        typer.echo(f"e2train: the files of {name} were there already; they were not checked", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        folder = download(source, to, watch=lambda done, of: progress.update(task, completed=done, total=of))
    typer.echo(folder)
