// SPDX-License-Identifier: Apache-2.0
// The DDR behind the DMA's two 64-bit ports, and the whole timing model of the memory:
//
//   bursts      A port asks for bursts of up to burst_beats beats of 8 bytes that never cross 4 KiB, at most
//               one per cycle and at most `outstanding` under way.
//   latency     The first beat of a read burst is there read_latency cycles after it was asked for, the rest
//               follow at up to one beat per cycle. Writes are posted: the DMA reports the end of a transfer
//               write_latency cycles after its last beat.
//   bandwidth   All ports together, that for descriptors included, move at most bytes_per_cycle bytes per
//               cycle on average (a token bucket as deep as one cycle's worth, at least two beats). 16 lets
//               both ports run at full speed: at 100 MHz 1.6 GB/s, three quarters of the 2.1 GB/s of a
//               PYNQ-Z2's 16-bit DDR3-1050. Several engines have such a share each: the four of a ZCU104, at
//               187.5 MHz, 12 GB/s of the 19.2 GB/s of its 64-bit DDR4-2400.
//
// Registers of the DMA are read and written in no time; caches, refresh and other masters are not modelled.
#ifndef E2SIM_SOC_DDR_HPP_
#define E2SIM_SOC_DDR_HPP_

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace soc {

constexpr uint32_t kBeatBytes = 8;
constexpr uint32_t kPageBytes = 4096;

struct Timing {
  uint32_t read_latency;
  uint32_t write_latency;
  uint32_t burst_beats;
  uint32_t outstanding;
  uint32_t bytes_per_cycle;
};

class Ddr {
 public:
  // The memory belongs to the caller.
  Ddr(uint8_t* data, uint64_t base, uint64_t bytes, const Timing& timing)
      : timing(timing),
        base_(base),
        bytes_(bytes),
        data_(data),
        credit_limit_(std::max(timing.bytes_per_cycle, 2 * kBeatBytes)) {}
  Ddr(const Ddr&) = delete;
  Ddr& operator=(const Ddr&) = delete;

  bool holds(uint64_t address, uint64_t bytes) const {
    return address >= base_ && bytes <= bytes_ && address - base_ <= bytes_ - bytes;
  }
  // Bytes past the end of a transfer read as zero.
  uint64_t load(uint64_t address, uint32_t bytes) const {
    uint64_t beat = 0;
    std::memcpy(&beat, data_ + (address - base_), bytes);
    return beat;
  }
  void store(uint64_t address, uint64_t beat) { std::memcpy(data_ + (address - base_), &beat, kBeatBytes); }
  void store_word(uint64_t address, uint32_t word) {
    std::memcpy(data_ + (address - base_), &word, sizeof word);
  }

  void refill() { credit_ = std::min(credit_ + timing.bytes_per_cycle, credit_limit_); }
  bool has(uint32_t bytes) const { return credit_ >= bytes; }
  void take(uint32_t bytes) { credit_ -= bytes; }

  const Timing timing;

 private:
  const uint64_t base_;
  const uint64_t bytes_;
  uint8_t* const data_;
  const uint32_t credit_limit_;
  uint32_t credit_ = 0;
};

}  // namespace soc

#endif  // E2SIM_SOC_DDR_HPP_
