# SPDX-License-Identifier: Apache-2.0
# The block design of every board: processing system, an AXI DMA in scatter-gather mode for each engine, which
# is between the DMA's two streams. The DMA's reset output resets the engine, so that a driver's reset finds
# both idle. A kernel in the engine's place may have registers of its own. Where there are several engines, a
# CDMA writes to the registers of their DMAs, so that one write of its own starts them all.

proc build_block_design {description} {
  upvar #0 $description board

  set ps ps_0
  create_bd_cell -type ip -vlnv $board(processing_system_vlnv) $ps
  set ports [processing_system_$board(processing_system) board $ps]
  set clock [dict get $ports clock]
  set reset_in [dict get $ports reset]

  create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 reset_0
  connect_bd_net [get_bd_pins $clock] [get_bd_pins reset_0/slowest_sync_clk]
  connect_bd_net [get_bd_pins $reset_in] [get_bd_pins reset_0/ext_reset_in]

  # A register that can be read back, for pynq's own self-test; its outputs lead nowhere.
  create_bd_cell -type ip -vlnv $board(gpio_vlnv) axi_gpio_0
  set_property -dict [list CONFIG.C_GPIO_WIDTH 4 CONFIG.C_ALL_OUTPUTS 1] [get_bd_cells axi_gpio_0]

  set engines [llength $board(memory_ports)]
  create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 control_0
  set control [info exists board(control_base)]
  set starter [info exists board(starter_base)]
  set_property -dict [list CONFIG.NUM_SI [expr {1 + $starter}] CONFIG.NUM_MI [expr {$engines + 1 + $control + $starter}]] \
    [get_bd_cells control_0]
  connect_bd_intf_net [get_bd_intf_pins $ps/$board(control_port)] [get_bd_intf_pins control_0/S00_AXI]
  connect_bd_intf_net [get_bd_intf_pins control_0/[format M%02d_AXI $engines]] [get_bd_intf_pins axi_gpio_0/S_AXI]

  set clocked [concat [dict get $ports clocked] {axi_gpio_0/s_axi_aclk control_0/aclk}]
  set resets {axi_gpio_0/s_axi_aresetn control_0/aresetn}
  for {set i 0} {$i < $engines} {incr i} {
    build_engine board $i $ps/[lindex $board(memory_ports) $i]
    lappend clocked axi_dma_$i/s_axi_lite_aclk axi_dma_$i/m_axi_mm2s_aclk axi_dma_$i/m_axi_s2mm_aclk \
      axi_dma_$i/m_axi_sg_aclk engine_$i/clk memory_$i/aclk
    lappend resets axi_dma_$i/axi_resetn memory_$i/aresetn
  }
  if {$control} {
    connect_bd_intf_net [get_bd_intf_pins control_0/[format M%02d_AXI [expr {$engines + 1}]]] \
      [get_bd_intf_pins engine_0/s_axi_control]
    lappend resets engine_0/s_axi_aresetn
  }
  if {$starter} {
    build_starter board [format M%02d_AXI [expr {$engines + 1}]]
    lappend clocked axi_cdma_0/m_axi_aclk axi_cdma_0/s_axi_lite_aclk starter_0/aclk
    lappend resets axi_cdma_0/s_axi_lite_aresetn starter_0/aresetn
  }
  foreach pin $clocked {
    connect_bd_net [get_bd_pins $clock] [get_bd_pins $pin]
  }
  foreach pin $resets {
    connect_bd_net [get_bd_pins reset_0/peripheral_aresetn] [get_bd_pins $pin]
  }

  for {set i 0} {$i < $engines} {incr i} {
    assign_bd_address -offset [format 0x%x [expr {$board(dma_base) + $i * $board(dma_range)}]] \
      -range $board(dma_range) [get_bd_addr_segs axi_dma_$i/S_AXI_LITE/Reg]
  }
  assign_bd_address -offset $board(gpio_base) -range $board(dma_range) \
    [get_bd_addr_segs axi_gpio_0/S_AXI/Reg]
  if {$starter} {
    assign_bd_address -offset $board(starter_base) -range $board(dma_range) \
      [get_bd_addr_segs axi_cdma_0/S_AXI_LITE/Reg]
  }
  if {$control} {
    assign_bd_address -offset $board(control_base) -range $board(dma_range) \
      [get_bd_addr_segs engine_0/s_axi_control/*]
  }
  assign_bd_address
}

# An engine between the streams of its DMA, which has a port to the memory of its own.
proc build_engine {description i memory_port} {
  upvar $description board
  set dma axi_dma_$i
  create_bd_cell -type ip -vlnv $board(dma_vlnv) $dma
  set_property -dict [list \
    CONFIG.c_include_sg 1 \
    CONFIG.c_sg_include_stscntrl_strm 0 \
    CONFIG.c_sg_length_width $board(dma_length_bits) \
    CONFIG.c_include_mm2s 1 \
    CONFIG.c_include_s2mm 1 \
    CONFIG.c_include_mm2s_dre 0 \
    CONFIG.c_include_s2mm_dre 0 \
    CONFIG.c_m_axi_mm2s_data_width $board(data_bits) \
    CONFIG.c_m_axis_mm2s_tdata_width $board(data_bits) \
    CONFIG.c_m_axi_s2mm_data_width $board(data_bits) \
    CONFIG.c_s_axis_s2mm_tdata_width $board(data_bits) \
    CONFIG.c_mm2s_burst_size 64 \
    CONFIG.c_s2mm_burst_size 64 \
  ] [get_bd_cells $dma]

  create_bd_cell -type module -reference $board(engine_module) engine_$i
  connect_bd_intf_net [get_bd_intf_pins $dma/M_AXIS_MM2S] [get_bd_intf_pins engine_$i/s_axis]
  connect_bd_intf_net [get_bd_intf_pins engine_$i/m_axis] [get_bd_intf_pins $dma/S_AXIS_S2MM]
  connect_bd_net [get_bd_pins $dma/mm2s_prmry_reset_out_n] [get_bd_pins engine_$i/rst_n]

  connect_bd_intf_net [get_bd_intf_pins control_0/[format M%02d_AXI $i]] [get_bd_intf_pins $dma/S_AXI_LITE]
  create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 memory_$i
  set inputs [expr {$i == 0 && [info exists board(starter_base)] ? 5 : 3}]
  set_property -dict [list CONFIG.NUM_SI $inputs CONFIG.NUM_MI 1] [get_bd_cells memory_$i]
  connect_bd_intf_net [get_bd_intf_pins $dma/M_AXI_MM2S] [get_bd_intf_pins memory_$i/S00_AXI]
  connect_bd_intf_net [get_bd_intf_pins $dma/M_AXI_S2MM] [get_bd_intf_pins memory_$i/S01_AXI]
  connect_bd_intf_net [get_bd_intf_pins $dma/M_AXI_SG] [get_bd_intf_pins memory_$i/S02_AXI]
  connect_bd_intf_net [get_bd_intf_pins memory_$i/M00_AXI] [get_bd_intf_pins $memory_port]
}

# A CDMA in scatter-gather mode: it takes words from the memory, by the port of the first engine's DMA, and
# writes them to the registers of all DMAs.
proc build_starter {description control_port} {
  upvar $description board
  create_bd_cell -type ip -vlnv $board(starter_vlnv) axi_cdma_0
  set_property -dict [list \
    CONFIG.C_INCLUDE_SG 1 \
    CONFIG.C_ADDR_WIDTH 32 \
    CONFIG.C_M_AXI_DATA_WIDTH 32 \
  ] [get_bd_cells axi_cdma_0]
  connect_bd_intf_net [get_bd_intf_pins control_0/$control_port] [get_bd_intf_pins axi_cdma_0/S_AXI_LITE]
  create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 starter_0
  set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 2] [get_bd_cells starter_0]
  connect_bd_intf_net [get_bd_intf_pins axi_cdma_0/M_AXI] [get_bd_intf_pins starter_0/S00_AXI]
  connect_bd_intf_net [get_bd_intf_pins starter_0/M00_AXI] [get_bd_intf_pins control_0/S01_AXI]
  connect_bd_intf_net [get_bd_intf_pins starter_0/M01_AXI] [get_bd_intf_pins memory_0/S03_AXI]
  connect_bd_intf_net [get_bd_intf_pins axi_cdma_0/M_AXI_SG] [get_bd_intf_pins memory_0/S04_AXI]
}

# Zynq-7000. Returns its clock and reset pins, and the pins that want the clock.
proc processing_system_processing_system7 {description ps} {
  upvar $description board
  apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
    -config {make_external "FIXED_IO, DDR" apply_board_preset "1"} [get_bd_cells $ps]
  set properties [list \
    CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $board(clock_mhz) \
    CONFIG.PCW_USE_M_AXI_GP0 1 \
  ]
  set clocked [list $ps/M_AXI_GP0_ACLK]
  for {set i 0} {$i < [llength $board(memory_ports)]} {incr i} {
    lappend properties CONFIG.PCW_USE_S_AXI_HP$i 1 CONFIG.PCW_S_AXI_HP${i}_DATA_WIDTH $board(data_bits)
    lappend clocked $ps/S_AXI_HP${i}_ACLK
  }
  set_property -dict $properties [get_bd_cells $ps]
  return [dict create clock $ps/FCLK_CLK0 reset $ps/FCLK_RESET0_N clocked $clocked]
}

# Zynq UltraScale+.
proc processing_system_zynq_ultra_ps_e {description ps} {
  upvar $description board
  apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e \
    -config {apply_board_preset "1"} [get_bd_cells $ps]
  set properties [list \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $board(clock_mhz) \
    CONFIG.PSU__USE__M_AXI_GP0 1 \
    CONFIG.PSU__USE__M_AXI_GP1 0 \
    CONFIG.PSU__MAXIGP0__DATA_WIDTH 32 \
  ]
  set clocked [list $ps/maxihpm0_fpd_aclk]
  for {set i 0} {$i < [llength $board(memory_ports)]} {incr i} {
    set port [expr {$i + 2}]  ;# S_AXI_HP0_FPD is GP2
    lappend properties CONFIG.PSU__USE__S_AXI_GP$port 1 CONFIG.PSU__SAXIGP${port}__DATA_WIDTH $board(data_bits)
    lappend clocked $ps/saxihp${i}_fpd_aclk
  }
  set_property -dict $properties [get_bd_cells $ps]
  return [dict create clock $ps/pl_clk0 reset $ps/pl_resetn0 clocked $clocked]
}
