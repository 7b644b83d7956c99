"""HLS C++ to SystemVerilog with pip-installable open tools."""
