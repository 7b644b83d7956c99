// SPDX-License-Identifier: Apache-2.0
// AXI DMA (Xilinx PG021) in direct register or in scatter-gather mode, without data realignment, 26-bit
// lengths, one beat per cycle. Its registers are those of its channels. A reset holds both channels and the
// kernel for reset_cycles.
#ifndef E2SIM_SOC_DMA_HPP_
#define E2SIM_SOC_DMA_HPP_

#include <array>
#include <cstdint>

#include "channel.hpp"
#include "ddr.hpp"

namespace soc {

constexpr uint32_t kMaxOutstanding = 16;

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
  bool last() const { return ends_ && piece_.last; }

 private:
  struct Burst {
    uint64_t ready_cycle;
    uint64_t address;
    uint32_t bytes;
    bool decoded;
    bool ends;  // the piece
    Piece piece;
  };
  void clear() override;
  bool sound(const Piece& piece) const override;
  void request(uint64_t now);
  void load_beat(uint64_t now);

  std::array<Burst, kMaxOutstanding> bursts_;
  uint32_t head_ = 0;
  uint32_t waiting_ = 0;
  Piece asked_;  // being requested
  uint64_t request_address_ = 0;
  uint32_t to_request_ = 0;
  Piece piece_;        // of the beat shown
  bool ends_ = false;  // the beat shown is its last
  bool valid_ = false;
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
  void clear() override;
  bool sound(const Piece& piece) const override;

  Piece piece_;
  bool receiving_ = false;
  bool in_packet_ = false;
  uint32_t flags_ = 0;
  uint32_t received_ = 0;
};

class Dma {
 public:
  Dma(Ddr& ddr, bool scatter_gather, uint32_t reset_cycles)
      : mm2s(ddr, scatter_gather), s2mm(ddr, scatter_gather), reset_cycles_(reset_cycles) {
    reset();
  }

  uint32_t read(uint32_t offset) const;
  void write(uint32_t offset, uint32_t value);
  void reset();
  bool in_reset() const { return reset_left_ != 0; }
  void step_reset() { --reset_left_; }
  // One cycle of the descriptors, which come before the streams.
  void step_descriptors(uint64_t now);
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
  void step_port(uint64_t now);

  const uint32_t reset_cycles_;
  uint32_t reset_left_ = 0;
  bool turn_ = false;  // which channel's descriptor comes first
};

}  // namespace soc

#endif  // E2SIM_SOC_DMA_HPP_
