# SPDX-License-Identifier: Apache-2.0
"""What a kernel takes of a part: cells by Yosys, and the longest paths."""

from e2hls.report.kernel_report import TIMING_NOTE, Cells, KernelReport, PartBudget, Usage, report
from e2hls.report.timing import StagePath

__all__ = ["TIMING_NOTE", "Cells", "KernelReport", "PartBudget", "StagePath", "Usage", "report"]
