# SPDX-License-Identifier: Apache-2.0
"""What every part of the flow uses: kernels and designs, errors, clang, and the cache of build products."""
