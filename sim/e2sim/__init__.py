"""The Verilated SoC and the cocotb runner."""
