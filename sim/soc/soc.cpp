// SPDX-License-Identifier: Apache-2.0
// The SoC: a Verilated kernel between the two streams of an AXI DMA, its DDR, a cycle counter; and the C API.
// Verilator gives the kernel the class name Vkernel, whatever its top module is called.
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "Vkernel.h"
#include "ddr.hpp"
#include "dma.hpp"
#include "verilated.h"
#ifdef SOC_ACTIVITY
  #include "verilated_saif_c.h"
#endif

// Verilator's defaults end the process; an assertion must end one simulation only.
void vl_stop(const char* file, int line, const char*) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": assertion failed");
}
void vl_fatal(const char* file, int line, const char*, const char* message) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

extern "C" {

struct SocConfig {
  uint8_t* memory;
  uint64_t memory_base;
  uint64_t memory_bytes;
  soc::Timing timing;
  uint32_t scatter_gather;  // how the DMA was built
  uint32_t reset_cycles;
  uint32_t seed;  // of the power-up values of registers
};

struct SocStats {
  uint64_t cycles;
  soc::Beats words_in;   // of the latest MM2S transfer or chain
  soc::Beats words_out;  // of the latest S2MM transfer or chain
};

enum SocUntil { kUntilDeadline = 0, kUntilInterrupt = 1, kUntilIdle = 2 };
enum SocOutcome { kReached = 0, kDeadline = 1, kStopped = 2 };
}

class Soc {
 public:
  explicit Soc(const SocConfig& config)
      : ddr_(config.memory, config.memory_base, config.memory_bytes, config.timing),
        dma_(ddr_, config.scatter_gather != 0, config.reset_cycles) {
    context_.randReset(2);
    context_.randSeed(static_cast<int>(config.seed));
#ifdef SOC_ACTIVITY
    context_.traceEverOn(true);
#endif
    kernel_ = std::make_unique<Vkernel>(&context_);
    kernel_->clk = 0;
    kernel_->rst_n = 0;
#ifdef SOC_CONTROL
    kernel_->s_axi_aresetn = 0;
    kernel_->s_axi_control_awvalid = kernel_->s_axi_control_wvalid = kernel_->s_axi_control_arvalid = 0;
    kernel_->s_axi_control_wstrb = 0xf;
    kernel_->s_axi_control_bready = kernel_->s_axi_control_rready = 1;
#endif
    while (dma_.in_reset()) step();
#ifdef SOC_CONTROL
    kernel_->s_axi_aresetn = 1;
#endif
  }
  ~Soc() {
    record(nullptr);
    kernel_->final();
  }

  // Count the kernel's switching into a SAIF file from now on; null ends it. False without the means to.
  bool record(const char* path) {
#ifdef SOC_ACTIVITY
    if (activity_) activity_->close();
    activity_.reset();
    if (path) {
      activity_ = std::make_unique<VerilatedSaifC>();
      kernel_->trace(activity_.get(), 99);
      activity_->open(path);
      return activity_->isOpen();
    }
    return true;
#else
    return path == nullptr;
#endif
  }

  int run(uint64_t max_cycles, int until) {
    if (!error_.empty()) return kStopped;
    try {
      const uint64_t deadline = cycle_ + max_cycles;
      while (!reached(until)) {
        if (cycle_ >= deadline) return until == kUntilDeadline ? kReached : kDeadline;
        step();
      }
      return kReached;
    } catch (const std::exception& error) {
      error_ = error.what();
      return kStopped;
    }
  }

#ifdef SOC_CONTROL
  // One access to the kernel's own registers, in the clock's time; the slave takes it at once.
  uint32_t control_read(uint32_t offset) {
    kernel_->s_axi_control_araddr = offset & 0xfff;
    kernel_->s_axi_control_arvalid = 1;
    const bool done = run(1, kUntilDeadline) == kReached;
    kernel_->s_axi_control_arvalid = 0;
    const uint32_t value = kernel_->s_axi_control_rdata;
    if (done) run(1, kUntilDeadline);
    return value;
  }
  void control_write(uint32_t offset, uint32_t value) {
    kernel_->s_axi_control_awaddr = offset & 0xfff;
    kernel_->s_axi_control_wdata = value;
    kernel_->s_axi_control_awvalid = kernel_->s_axi_control_wvalid = 1;
    const bool done = run(1, kUntilDeadline) == kReached;
    kernel_->s_axi_control_awvalid = kernel_->s_axi_control_wvalid = 0;
    if (done) run(1, kUntilDeadline);
  }
#else
  uint32_t control_read(uint32_t) { return 0; }
  void control_write(uint32_t, uint32_t) {}
#endif

  SocStats stats() const { return {cycle_, dma_.mm2s.beats(), dma_.s2mm.beats()}; }
  soc::Dma& dma() { return dma_; }
  const std::string& error() const { return error_; }

 private:
  bool reached(int until) const {
    if (until == kUntilInterrupt) return dma_.interrupts();
    return until == kUntilIdle && (dma_.idle() || dma_.failed());
  }

  // One clock cycle: settle the inputs, sample the handshakes, clock.
  void step() {
    const bool in_reset = dma_.in_reset();
    bool ready = false;
    if (in_reset) {
      dma_.step_reset();
    } else {
      ddr_.refill();
      dma_.step_descriptors(cycle_);
      dma_.mm2s.before_edge(cycle_);
      ready = dma_.s2mm.before_edge(cycle_);
    }
    kernel_->rst_n = !in_reset;
    kernel_->s_axis_tvalid = dma_.mm2s.valid();
    kernel_->s_axis_tdata = dma_.mm2s.data();
    kernel_->s_axis_tlast = dma_.mm2s.last();
    kernel_->m_axis_tready = ready;
    kernel_->clk = 0;
    kernel_->eval();
    dump();
    const bool accepted = kernel_->s_axis_tready;
    const bool sent = ready && kernel_->m_axis_tvalid;
    const uint64_t data = kernel_->m_axis_tdata;
    const bool last = kernel_->m_axis_tlast;
    kernel_->clk = 1;
    kernel_->eval();
    dump();
    if (!in_reset) {
      dma_.mm2s.after_edge(cycle_, accepted);
      dma_.s2mm.after_edge(cycle_, sent, data, last);
    }
    ++cycle_;
  }

  void dump() {
#ifdef SOC_ACTIVITY
    if (activity_) activity_->dump(half_cycle_++);
#endif
  }

  soc::Ddr ddr_;
  soc::Dma dma_;
  VerilatedContext context_;
  std::unique_ptr<Vkernel> kernel_;
#ifdef SOC_ACTIVITY
  std::unique_ptr<VerilatedSaifC> activity_;
  uint64_t half_cycle_ = 0;
#endif
  uint64_t cycle_ = 0;
  std::string error_;
};

extern "C" {

// Null when there is not enough memory or the kernel stops during its first reset.
Soc* soc_open(const SocConfig* config) {
  try {
    return new Soc(*config);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void soc_close(Soc* soc) { delete soc; }

uint32_t soc_reg_read(Soc* soc, uint32_t offset) { return soc->dma().read(offset); }

// The next transfer of that direction ends with this error of the status register, after its first beat.
void soc_fail_next(Soc* soc, int s2mm, uint32_t status_bit) { soc->dma().fail_next(s2mm != 0, status_bit); }

void soc_reg_write(Soc* soc, uint32_t offset, uint32_t value) { soc->dma().write(offset, value); }

// Registers of the kernel itself, where it has some.
uint32_t soc_control_read(Soc* soc, uint32_t offset) { return soc->control_read(offset); }
void soc_control_write(Soc* soc, uint32_t offset, uint32_t value) { soc->control_write(offset, value); }

int soc_run(Soc* soc, uint64_t max_cycles, int until) { return soc->run(max_cycles, until); }

uint64_t soc_cycles(Soc* soc) { return soc->stats().cycles; }

void soc_stats(Soc* soc, SocStats* stats) { *stats = soc->stats(); }

// Whether switching is counted into this file from now on; null ends that.
int soc_record(Soc* soc, const char* path) { return soc->record(path); }

// Why soc_run returned kStopped.
const char* soc_error(Soc* soc) { return soc->error().c_str(); }
}
