// SPDX-License-Identifier: Apache-2.0
// AXI DMA in direct register mode (Xilinx PG021), without data realignment, 26-bit lengths, one beat per
// cycle.
//
//   offset  MM2S / S2MM      bits
//   0x00 / 0x30  DMACR       0 RS, 2 Reset (self-clearing), 12 IOC_IrqEn, 14 Err_IrqEn
//   0x04 / 0x34  DMASR       0 Halted, 1 Idle, 4 DMAIntErr, 5 DMASlvErr, 6 DMADecErr, 12 IOC_Irq, 14 Err_Irq
//                            (12..14 are cleared by writing 1)
//   0x18 / 0x48  SA / DA     low half of the address         0x1C / 0x4C  its high half
//   0x28 / 0x58  LENGTH      bytes; writing it starts a transfer if RS is set; S2MM reads back the bytes
//   received
//
// DMAIntErr: length zero, address not on an 8-byte boundary, or a packet longer than the S2MM length.
// DMADecErr: a burst outside the DDR. DMASlvErr: none arises here; fail_next() makes one. An error clears RS
// and halts its channel until the next reset. A reset holds both channels and the kernel for reset_cycles.
#ifndef E2SIM_SOC_DMA_HPP_
#define E2SIM_SOC_DMA_HPP_

#include <array>
#include <cstdint>

#include "ddr.hpp"

namespace soc {

constexpr uint32_t kRunStop = 1u << 0;
constexpr uint32_t kReset = 1u << 2;
constexpr uint32_t kControlDefault = 0x00010002;
constexpr uint32_t kHalted = 1u << 0;
constexpr uint32_t kIdle = 1u << 1;
constexpr uint32_t kIntErr = 1u << 4;
constexpr uint32_t kSlvErr = 1u << 5;
constexpr uint32_t kDecErr = 1u << 6;
constexpr uint32_t kIocIrq = 1u << 12;
constexpr uint32_t kErrIrq = 1u << 14;
constexpr uint32_t kIrqMask = 7u << 12;
constexpr uint32_t kLengthMask = (1u << 26) - 1;
constexpr uint32_t kMaxOutstanding = 16;

// What one transfer did: the cycles of its first and last beat on the kernel's stream, and the number of
// beats.
struct Beats {
  uint64_t first_cycle = 0;
  uint64_t last_cycle = 0;
  uint64_t count = 0;

  void add(uint64_t now) {
    if (count++ == 0) first_cycle = now;
    last_cycle = now;
  }
};

// The registers and their rules, shared by both directions.
class Channel {
 public:
  explicit Channel(Ddr& ddr) : ddr_(ddr) {}

  uint32_t read(uint32_t offset) const;
  // Returns true when the write asks for a reset.
  bool write(uint32_t offset, uint32_t value);
  void reset_registers();

  bool active() const { return active_; }
  bool failed() const { return (status_ & kErrIrq) != 0 || (status_ & (kIntErr | kSlvErr | kDecErr)) != 0; }
  bool interrupts() const { return (status_ & control_ & kIrqMask) != 0; }
  const Beats& beats() const { return beats_; }
  void fail_next(uint32_t bit) { planned_ = bit; }

 protected:
  ~Channel() = default;
  virtual void start() = 0;
  void complete();
  void fail(uint32_t bit);
  // Whether the transfer has just ended with an error that was asked for.
  bool failed_as_planned();

  Ddr& ddr_;
  uint64_t address_ = 0;
  uint32_t length_ = 0;
  bool active_ = false;
  Beats beats_;

 private:
  void start_if_sound(uint32_t length);

  uint32_t control_ = kControlDefault;
  uint32_t status_ = kHalted;
  uint32_t planned_ = 0;  // error bit to end the next transfer with
};

// Memory to stream.
class Mm2s final : public Channel {
 public:
  using Channel::Channel;
  void reset();
  // Advances requests and fetches the beat to show, before the clock edge.
  void before_edge(uint64_t now);
  void after_edge(uint64_t now, bool ready);
  bool valid() const { return valid_; }
  uint64_t data() const { return data_; }
  bool last() const { return last_; }

 private:
  struct Burst {
    uint64_t ready_cycle;
    uint32_t bytes;
    bool decoded;
  };
  void start() override;
  void request(uint64_t now);
  void fetch(uint64_t now);

  std::array<Burst, kMaxOutstanding> bursts_;
  uint32_t head_ = 0;
  uint32_t waiting_ = 0;
  uint64_t request_address_ = 0;
  uint64_t fetch_address_ = 0;
  uint32_t to_request_ = 0;
  uint32_t to_fetch_ = 0;
  bool valid_ = false;
  bool last_ = false;
  uint64_t data_ = 0;
};

// Stream to memory.
class S2mm final : public Channel {
 public:
  using Channel::Channel;
  void reset();
  bool before_edge(uint64_t now);  // returns tready
  void after_edge(uint64_t now, bool valid, uint64_t data, bool last);

 private:
  void start() override;

  uint32_t received_ = 0;
  bool closing_ = false;
  uint64_t done_cycle_ = 0;
};

class Dma {
 public:
  Dma(Ddr& ddr, uint32_t reset_cycles) : mm2s(ddr), s2mm(ddr), reset_cycles_(reset_cycles) { reset(); }

  uint32_t read(uint32_t offset) const;
  void write(uint32_t offset, uint32_t value);
  void reset();
  bool in_reset() const { return reset_left_ != 0; }
  void step_reset() { --reset_left_; }
  bool idle() const { return !in_reset() && !mm2s.active() && !s2mm.active(); }
  bool failed() const { return mm2s.failed() || s2mm.failed(); }
  void fail_next(bool of_s2mm, uint32_t bit) {
    if (of_s2mm) {
      s2mm.fail_next(bit);
    } else {
      mm2s.fail_next(bit);
    }
  }
  bool interrupts() const { return mm2s.interrupts() || s2mm.interrupts(); }

  Mm2s mm2s;
  S2mm s2mm;

 private:
  const uint32_t reset_cycles_;
  uint32_t reset_left_ = 0;
};

}  // namespace soc

#endif  // E2SIM_SOC_DMA_HPP_
