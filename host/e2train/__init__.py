"""Train CNNs with low-precision convolutions on a PYNQ-class FPGA."""
