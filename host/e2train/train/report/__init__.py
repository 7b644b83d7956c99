# SPDX-License-Identifier: Apache-2.0
"""Runs side by side in one HTML file that needs nothing else, and the same figures as JSON and CSV."""

from e2train.train.report.figures import LayerRow, RunFigures, run_figures
from e2train.train.report.render import render_report, write_reports

__all__ = ["LayerRow", "RunFigures", "render_report", "run_figures", "write_reports"]
