# SPDX-License-Identifier: Apache-2.0
"""Passes over the IR: narrower values, port conflicts, ping-pong memories, and regions."""
