# SPDX-License-Identifier: Apache-2.0
"""User-correctable errors of a run."""

from __future__ import annotations

__all__ = ["Interrupted", "TrainError"]


class TrainError(ValueError):
    """A run that cannot be started or resumed as asked."""


class Interrupted(Exception):  # noqa: N818
    """A run that was stopped on request, after it was saved."""
