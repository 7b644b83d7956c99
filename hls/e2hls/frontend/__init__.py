# SPDX-License-Identifier: Apache-2.0
"""From a kernel's C++ to the IR: pragmas, clang, LLVM passes, and the lowering."""
