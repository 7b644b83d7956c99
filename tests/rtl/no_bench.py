# SPDX-License-Identifier: Apache-2.0
"""A bench without any test, which must not pass for one."""
