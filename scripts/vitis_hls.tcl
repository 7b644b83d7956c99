# SPDX-License-Identifier: Apache-2.0
# Build the engine with Vitis HLS instead of the open flow, from the same C++ with the vendor's own headers:
#   vitis_hls -f scripts/vitis_hls.tcl -tclargs BOARD [OUT_DIR [PYTHON]]
# BOARD is a configuration in boards.toml; PYTHON has e2train installed (default: .venv/bin/python).
# Leaves the synthesis report and an IP for Vivado's catalogue in OUT_DIR (default: build/vitis-BOARD).

set root [file dirname [file dirname [file normalize [info script]]]]
# vitis_hls passes its own arguments along with those behind -tclargs.
set arguments [lrange $argv [expr {[lsearch $argv -tclargs] + 1}] end]
if {[llength $arguments] < 1} {
  error "which board? vitis_hls -f vitis_hls.tcl -tclargs BOARD \[OUT_DIR \[PYTHON\]\]"
}
set board [lindex $arguments 0]
set out [expr {[llength $arguments] > 1 ? [lindex $arguments 1] : [file join $root build vitis-$board]}]
set python [expr {[llength $arguments] > 2 ? [lindex $arguments 2] : [file join $root .venv bin python]}]

# The configuration's header, part and clock come from the one place that knows them.
file mkdir $out
set board_line [exec $python -c {
import sys
from pathlib import Path
from e2train.config import config_header, load_config
config = load_config(sys.argv[1])
Path(sys.argv[2], "engine_config.hpp").write_text(config_header(config), encoding="utf-8")
print(config.part, config.period_ns)
} $board $out]
lassign $board_line part period_ns

cd $out
open_project -reset engine
set_top engine
set kernels [file join $root hls kernels]
add_files [file join $kernels engine_top.cpp] -cflags "-std=c++14 -I$out -I$kernels"
open_solution -reset -flow_target vivado solution
set_part $part
create_clock -period $period_ns
csynth_design
export_design -format ip_catalog
exit
