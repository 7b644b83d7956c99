# SPDX-License-Identifier: Apache-2.0
"""Training runs: the loop, methods, presets, checkpoints and reports."""

from e2train.train.config import PRESETS, RunConfig, find_config, read_config
from e2train.train.data import DataError
from e2train.train.errors import Interrupted, TrainError
from e2train.train.export import load_exported
from e2train.train.finished_run import FinishedRun, differences, read_run
from e2train.train.folder import RunFolder
from e2train.train.loop import Row, evaluate, train
from e2train.train.presets import METHODS, Method
from e2train.train.report import write_reports
from e2train.train.resources import open_context
from e2train.train.run import run_training
from e2train.train.session import Session, deterministic
from e2train.train.summary import Summary
from e2train.train.use import evaluate_run, predict, read_trained

__all__ = [
    "METHODS",
    "PRESETS",
    "DataError",
    "FinishedRun",
    "Interrupted",
    "Method",
    "Row",
    "RunConfig",
    "RunFolder",
    "Session",
    "Summary",
    "TrainError",
    "deterministic",
    "differences",
    "evaluate",
    "evaluate_run",
    "find_config",
    "load_exported",
    "open_context",
    "predict",
    "read_config",
    "read_run",
    "read_trained",
    "run_training",
    "train",
    "write_reports",
]
