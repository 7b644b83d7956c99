# SPDX-License-Identifier: Apache-2.0
"""Energy: measured by sensors, simulated by a simulated board's, modelled from what was executed."""
