# SPDX-License-Identifier: Apache-2.0
"""``e2train evaluate``, ``e2train predict`` and ``e2train export``: trained models in use."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from e2train.cli.interrupt import ends_at_once

__all__ = ["evaluate", "export", "predict"]

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or its model.pt.")]
_Device = Annotated[str, typer.Option(help="emulator, csim or rtl: the same integers.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON line for each result.")]


def evaluate(
    run: _Run,
    data: Annotated[
        Path | None, typer.Option(help="Other images with classes that the run knows: folder or .npz file.")
    ] = None,
    device: _Device = "emulator",
    as_json: _Json = False,
) -> None:
    """Test a trained model: accuracy overall and by class; the run's report shows the confusion matrix."""
    with ends_at_once():
        from e2train.train import evaluate_run

    found = evaluate_run(run, data=data, device=device)
    if as_json:
        typer.echo(found.to_json())
        return
    typer.echo(f"accuracy {found.accuracy:.2%} of {found.images} images; tested: {found.tested}")
    width = max(map(len, found.names))
    for name, row, share in zip(found.names, found.confusion, found.by_class, strict=True):
        typer.echo(f"{name:{width}}  " + ("no images" if share is None else f"{share:7.2%} of {sum(row)}"))
    if run.is_dir():
        typer.echo(f"report {run / 'report.html'}")


def predict(
    run: _Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    device: _Device = "emulator",
    as_json: _Json = False,
) -> None:
    """Print the class that a trained model predicts for each image."""
    with ends_at_once():
        from e2train.train import predict as classes_of
        from e2train.train import read_trained

    for found in classes_of(read_trained(run), images, device=device):
        typer.echo(
            json.dumps(asdict(found)) if as_json else f"{found.image}  {found.name}  {found.probability:.1%}"
        )


def export(
    run: _Run,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="torch: a Brevitas model; onnx: QCDQ, for onnxruntime; qonnx: for FINN and hls4ml.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default exported.* beside model.pt.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Images to check it on: folder or .npz file.")] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Skip the comparison of predicted classes on the test images.")
    ] = False,
) -> None:
    """Export the trained integers for other tools, if these predict the same classes on all test images."""
    with ends_at_once():
        from e2train.train import read_trained
        from e2train.train.export import DEFAULT_NAME, FORMATS
        from e2train.train.export import export as write

    folder = run if run.is_dir() else run.parent
    path = out or folder / f"{DEFAULT_NAME}{FORMATS.get(form, '')}"
    written = write(read_trained(run), path, form=form, data=data, checked=not unchecked)
    note = f"; the same class on all {written.images} test images" if written.images else "; not checked"
    typer.echo(f"{written.path}{note}")
