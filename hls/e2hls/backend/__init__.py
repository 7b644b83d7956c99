# SPDX-License-Identifier: Apache-2.0
"""From the IR to SystemVerilog: memories, XLS text, XLS itself, and the module that joins processes."""
