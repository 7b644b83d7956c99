// SPDX-License-Identifier: Apache-2.0
// The registers of one direction of an AXI DMA and the pieces of memory that they ask for: one at a time in
// direct register mode, in scatter-gather mode what a chain of descriptors in the DDR says (Xilinx PG021).
//
//   offset  MM2S / S2MM      bits
//   0x00 / 0x30  DMACR       0 RS, 2 Reset (self-clearing), 12 IOC_IrqEn, 14 Err_IrqEn
//   0x04 / 0x34  DMASR       0 Halted, 1 Idle, 3 SGIncld, 4 DMAIntErr, 5 DMASlvErr, 6 DMADecErr, 8 SGIntErr,
//                            9 SGSlvErr, 10 SGDecErr, 12 IOC_Irq, 14 Err_Irq (12..14 are cleared by writing
//                            1)
//   direct register mode
//   0x18 / 0x48  SA / DA     low half of the address         0x1C / 0x4C  its high half
//   0x28 / 0x58  LENGTH      bytes; writing it starts a transfer if RS is set; S2MM reads back the bytes
//                            received
//   scatter-gather mode
//   0x08 / 0x38  CURDESC     the current descriptor, written while the channel is halted
//   0x10 / 0x40  TAILDESC    the last descriptor; writing it starts fetching if RS is set
//   Addresses have 32 bits there, so there are no high halves of pointers.
//
// A descriptor stands at a multiple of 64 bytes: 0x00 NXTDESC, 0x08 BUFFER_ADDRESS, 0x18 CONTROL (0..25
// bytes, of MM2S 26 TXEOF, 27 TXSOF), 0x1C STATUS (0..25 bytes, of S2MM 26 RXEOF, 27 RXSOF, 28 DMAIntErr,
// 29 DMASlvErr, 30 DMADecErr, 31 Cmplt).
// Both channels share one 32-bit port for them: a fetch takes read_latency cycles and one for each of eight
// words, a status one cycle. Up to kQueue descriptors are fetched ahead.
//
// DMAIntErr: length zero, address not on an 8-byte boundary, a packet longer than the S2MM length, or a
// descriptor within a packet whose length is not a multiple of 8 bytes (there is no data realignment).
// DMADecErr: a burst outside the DDR. SGIntErr: a descriptor that is complete already. SGDecErr: a descriptor
// outside the DDR, or not at a multiple of 64 bytes. DMASlvErr, SGSlvErr: none arises here; fail_next() makes
// one. An error clears RS and halts its channel until the next reset.
#ifndef E2SIM_SOC_CHANNEL_HPP_
#define E2SIM_SOC_CHANNEL_HPP_

#include <cstdint>
#include <deque>

#include "ddr.hpp"

namespace soc {

constexpr uint32_t kRunStop = 1u << 0;
constexpr uint32_t kReset = 1u << 2;
constexpr uint32_t kControlDefault = 0x00010002;
constexpr uint32_t kHalted = 1u << 0;
constexpr uint32_t kIdle = 1u << 1;
constexpr uint32_t kSgIncluded = 1u << 3;
constexpr uint32_t kIntErr = 1u << 4;
constexpr uint32_t kSlvErr = 1u << 5;
constexpr uint32_t kDecErr = 1u << 6;
constexpr uint32_t kSgIntErr = 1u << 8;
constexpr uint32_t kSgSlvErr = 1u << 9;
constexpr uint32_t kSgDecErr = 1u << 10;
constexpr uint32_t kDataErrors = kIntErr | kSlvErr | kDecErr;
constexpr uint32_t kSgErrors = kSgIntErr | kSgSlvErr | kSgDecErr;
constexpr uint32_t kIocIrq = 1u << 12;
constexpr uint32_t kErrIrq = 1u << 14;
constexpr uint32_t kIrqMask = 7u << 12;
constexpr uint32_t kLengthMask = (1u << 26) - 1;

constexpr uint32_t kEndOfFrame = 1u << 26;  // of a descriptor's control (MM2S) and status (S2MM)
constexpr uint32_t kStartOfFrame = 1u << 27;
constexpr uint32_t kErrorShift = 24;  // from an error bit of DMASR to that of a descriptor's status
constexpr uint32_t kComplete = 1u << 31;
constexpr uint32_t kDescriptorAlignment = 64;
constexpr uint32_t kQueue = 4;

// What one transfer or chain did: the cycles of its first and last beat on the kernel's stream, and the
// number of beats.
struct Beats {
  uint64_t first_cycle = 0;
  uint64_t last_cycle = 0;
  uint64_t count = 0;

  void add(uint64_t now) {
    if (count++ == 0) first_cycle = now;
    last_cycle = now;
  }
};

// Memory to be moved.
struct Piece {
  uint64_t address = 0;
  uint32_t bytes = 0;
  bool last = true;         // it ends a packet; of S2MM known at its end
  uint64_t descriptor = 0;  // that asks for it
};

// The registers and their rules, shared by both directions.
class Channel {
 public:
  Channel(Ddr& ddr, bool scatter_gather) : ddr_(ddr), scatter_gather_(scatter_gather) {}

  uint32_t read(uint32_t offset) const;
  // Returns true when the write asks for a reset.
  bool write(uint32_t offset, uint32_t value);
  void reset_registers();

  bool active() const { return active_; }
  bool failed() const { return (status_ & (kErrIrq | kDataErrors | kSgErrors)) != 0; }
  bool interrupts() const { return (status_ & control_ & kIrqMask) != 0; }
  const Beats& beats() const { return beats_; }
  void fail_next(uint32_t bit) { planned_ = bit; }

  // What the port for descriptors may do in a cycle.
  bool fetching() const { return fetching_; }
  bool begin_fetch(uint64_t now);
  void fetch(uint64_t now);
  bool write_status(uint64_t now);
  // Ends what has ended by now.
  void settle(uint64_t now);

 protected:
  ~Channel() = default;
  // The channel begins or is halted: forget what was under way.
  virtual void clear() = 0;
  virtual bool sound(const Piece& piece) const = 0;
  // Takes the next piece, if there is one.
  bool take(Piece& piece);
  // The piece has been moved; its end counts from the cycle `due` on.
  void finish(const Piece& piece, uint32_t bytes, uint32_t flags, uint64_t due);
  void fail(uint32_t bit, const Piece& piece);
  // Whether the transfer has just ended with an error that was asked for.
  bool failed_as_planned(const Piece& piece);
  bool scatter_gather() const { return scatter_gather_; }

  Ddr& ddr_;
  bool active_ = false;
  Beats beats_;

 private:
  struct Update {
    Piece piece;
    uint32_t bytes;
    uint32_t flags;
    uint64_t due;
  };

  void run_or_stop(uint32_t value);
  void start_transfer(uint32_t length);
  void start_fetching();
  void parse();
  void store_status(uint64_t descriptor, uint32_t value) {
    ddr_.store_word(descriptor + kStatusOffset, value);
  }
  void halt_with(uint32_t bit);

  static constexpr uint32_t kStatusOffset = 0x1C;

  const bool scatter_gather_;
  uint32_t control_ = kControlDefault;
  uint32_t status_ = kHalted;
  uint32_t planned_ = 0;  // error bit to end the next transfer with
  uint64_t address_ = 0;
  uint32_t length_ = 0;
  uint64_t current_ = 0;
  uint64_t tail_ = 0;

  std::deque<Piece> pieces_;
  std::deque<Update> updates_;
  uint32_t moving_ = 0;  // pieces taken and not finished
  uint64_t next_ = 0;    // descriptor to be fetched
  bool paused_ = true;   // the tail has been fetched, or nothing yet
  bool fetching_ = false;
  uint64_t word_cycle_ = 0;  // from when the next word of the descriptor is there
  uint32_t words_ = 0;       // of it that have come
};

}  // namespace soc

#endif  // E2SIM_SOC_CHANNEL_HPP_
