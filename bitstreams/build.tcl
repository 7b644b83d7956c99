# SPDX-License-Identifier: Apache-2.0
# Build an overlay in Vivado's batch mode:
#   vivado -mode batch -source build.tcl -tclargs BOARD.tcl OUT_DIR RTL...
# BOARD.tcl sets the array e2train (e2train bitstream build writes it). Leaves overlay.bit, overlay.hwh and
# result.json (slack, resources, tool) in OUT_DIR.

set here [file dirname [file normalize [info script]]]
set board_file [lindex $argv 0]
set out [lindex $argv 1]
set rtl [lrange $argv 2 end]

source $board_file
source [file join $here block_design.tcl]

create_project -force overlay [file join $out project] -part $e2train(part)
set_property board_part $e2train(board_part) [current_project]
add_files -norecurse $rtl
set_property file_type SystemVerilog [get_files $rtl]
add_files -norecurse [file join $here $e2train(engine_module).v]
update_compile_order -fileset sources_1

create_bd_design overlay
build_block_design e2train
validate_bd_design
save_bd_design
set design [get_files overlay.bd]
generate_target all $design
add_files -norecurse [make_wrapper -files $design -top]
set_property top overlay_wrapper [current_fileset]

launch_runs impl_1 -to_step write_bitstream -jobs 2
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
  error "the implementation did not finish: [get_property STATUS [get_runs impl_1]]"
}

open_run impl_1
set slack [get_property SLACK [get_timing_paths -max_paths 1 -nworst 1 -setup]]
report_timing_summary -file [file join $out timing.rpt]
report_utilization -file [file join $out utilization.rpt]

proc count_cells {pattern} {
  return [llength [get_cells -hierarchical -filter "REF_NAME =~ $pattern"]]
}

set run [get_property DIRECTORY [get_runs impl_1]]
file copy -force [file join $run overlay_wrapper.bit] [file join $out overlay.bit]
set hwh [glob -directory [file join $out project overlay.gen sources_1 bd overlay hw_handoff] *.hwh]
file copy -force [lindex $hwh 0] [file join $out overlay.hwh]

set bram36 [expr {[count_cells RAMB36*] + ([count_cells RAMB18*] + 1) / 2}]
set result [open [file join $out result.json] w]
puts $result [format {{"slack_ns": %s, "tool": "%s", "resources": {"lut": %d, "ff": %d, "bram36": %d, "dsp": %d}}} \
  $slack [lindex [split [version] "\n"] 0] [count_cells LUT*] [count_cells FD*] $bram36 [count_cells DSP*]]
close $result
