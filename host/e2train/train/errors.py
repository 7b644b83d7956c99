# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a run that its user can mend."""

from __future__ import annotations

__all__ = ["Interrupted", "TrainError"]


class TrainError(ValueError):
    """A run that cannot be started or resumed as asked."""


class Interrupted(Exception):  # noqa: N818
    """A run that was stopped on request, after it was saved."""
