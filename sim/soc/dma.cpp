// SPDX-License-Identifier: Apache-2.0
#include "dma.hpp"

#include <algorithm>

namespace soc {

namespace {

constexpr uint32_t kControlAt = 0x00;
constexpr uint32_t kStatusAt = 0x04;
constexpr uint32_t kAddressAt = 0x18;
constexpr uint32_t kAddressHighAt = 0x1C;
constexpr uint32_t kLengthAt = 0x28;
constexpr uint32_t kS2mmBase = 0x30;
constexpr uint32_t kSpan = 0x30;
// What a driver may set: RS, keyhole, interrupt enables, threshold and delay.
constexpr uint32_t kControlWritable = 0xFFFF7009;

}  // namespace

uint32_t Channel::read(uint32_t offset) const {
  switch (offset) {
    case kControlAt:
      return control_;
    case kStatusAt:
      return status_;
    case kAddressAt:
      return static_cast<uint32_t>(address_);
    case kAddressHighAt:
      return static_cast<uint32_t>(address_ >> 32);
    case kLengthAt:
      return length_;
    default:
      return 0;
  }
}

bool Channel::write(uint32_t offset, uint32_t value) {
  switch (offset) {
    case kControlAt:
      if (value & kReset) return true;
      control_ = (value & kControlWritable) | (kControlDefault & 2u);
      // Stopping waits for the transfer under way; complete() halts then.
      if (control_ & kRunStop) {
        status_ &= ~kHalted;
      } else if (!active_) {
        status_ |= kHalted;
      }
      break;
    case kStatusAt:
      status_ &= ~(value & kIrqMask);
      break;
    case kAddressAt:
      address_ = (address_ & ~0xFFFFFFFFull) | value;
      break;
    case kAddressHighAt:
      address_ = (address_ & 0xFFFFFFFFull) | static_cast<uint64_t>(value) << 32;
      break;
    case kLengthAt:
      if ((control_ & kRunStop) && !(status_ & kHalted) && !active_) start_if_sound(value & kLengthMask);
      break;
    default:
      break;
  }
  return false;
}

void Channel::start_if_sound(uint32_t length) {
  length_ = length;
  status_ &= ~kIdle;
  beats_ = Beats{};
  if (length == 0 || address_ % kBeatBytes != 0) {
    fail(kIntErr);
    return;
  }
  active_ = true;
  start();
}

void Channel::reset_registers() {
  control_ = kControlDefault;
  status_ = kHalted;
  address_ = 0;
  length_ = 0;
  active_ = false;
}

void Channel::complete() {
  active_ = false;
  status_ |= kIdle | kIocIrq;
  if (!(control_ & kRunStop)) status_ |= kHalted;
}

void Channel::fail(uint32_t bit) {
  active_ = false;
  control_ &= ~kRunStop;
  status_ |= bit | kErrIrq | kHalted;
}

bool Channel::failed_as_planned() {
  if (planned_ == 0) return false;
  fail(planned_);
  planned_ = 0;
  return true;
}

void Mm2s::reset() {
  reset_registers();
  head_ = waiting_ = to_request_ = to_fetch_ = 0;
  valid_ = last_ = false;
}

void Mm2s::start() {
  request_address_ = fetch_address_ = address_;
  to_request_ = to_fetch_ = length_;
  head_ = waiting_ = 0;
}

void Mm2s::before_edge(uint64_t now) {
  if (to_request_ != 0 && waiting_ < ddr_.timing.outstanding) request(now);
  if (!valid_ && waiting_ != 0) fetch(now);
}

void Mm2s::request(uint64_t now) {
  const uint32_t to_page_end = kPageBytes - static_cast<uint32_t>(request_address_ % kPageBytes);
  const uint32_t bytes = std::min({to_request_, to_page_end, ddr_.timing.burst_beats * kBeatBytes});
  const bool decoded = ddr_.holds(request_address_, bytes);
  bursts_[(head_ + waiting_++) % kMaxOutstanding] = {now + ddr_.timing.read_latency, bytes, decoded};
  request_address_ += bytes;
  to_request_ -= bytes;
}

void Mm2s::fetch(uint64_t now) {
  Burst& burst = bursts_[head_];
  if (now < burst.ready_cycle) return;
  if (!burst.decoded) {
    to_request_ = waiting_ = 0;
    fail(kDecErr);
    return;
  }
  if (!ddr_.has_beat()) return;
  ddr_.take_beat();
  const uint32_t bytes = std::min(burst.bytes, kBeatBytes);
  data_ = ddr_.load(fetch_address_, bytes);
  fetch_address_ += bytes;
  to_fetch_ -= bytes;
  burst.bytes -= bytes;
  if (burst.bytes == 0) {
    head_ = (head_ + 1) % kMaxOutstanding;
    --waiting_;
  }
  valid_ = true;
  last_ = to_fetch_ == 0;
}

void Mm2s::after_edge(uint64_t now, bool ready) {
  if (!valid_ || !ready) return;
  beats_.add(now);
  valid_ = false;
  if (failed_as_planned()) {
    to_request_ = waiting_ = 0;
    return;
  }
  if (last_) complete();
}

void S2mm::reset() {
  reset_registers();
  received_ = 0;
  closing_ = false;
}

void S2mm::start() {
  received_ = 0;
  closing_ = false;
}

bool S2mm::before_edge(uint64_t now) {
  if (closing_ && now >= done_cycle_) {
    closing_ = false;
    length_ = received_;
    complete();
  }
  return active_ && !closing_ && ddr_.has_beat();
}

void S2mm::after_edge(uint64_t now, bool valid, uint64_t data, bool last) {
  if (!valid) return;
  beats_.add(now);
  if (failed_as_planned()) return;
  if (received_ + kBeatBytes > length_) {
    fail(kIntErr);
    return;
  }
  if (!ddr_.holds(address_ + received_, kBeatBytes)) {
    fail(kDecErr);
    return;
  }
  ddr_.take_beat();
  ddr_.store(address_ + received_, data);
  received_ += kBeatBytes;
  if (last) {
    closing_ = true;
    done_cycle_ = now + ddr_.timing.write_latency;
  }
}

uint32_t Dma::read(uint32_t offset) const {
  if (offset >= 2 * kSpan) return 0;
  const bool is_control = offset % kSpan == kControlAt;
  const uint32_t resetting = is_control && in_reset() ? kReset : 0;
  return (offset < kS2mmBase ? mm2s.read(offset) : s2mm.read(offset - kS2mmBase)) | resetting;
}

void Dma::write(uint32_t offset, uint32_t value) {
  if (in_reset() || offset >= 2 * kSpan) return;
  if (offset < kS2mmBase ? mm2s.write(offset, value) : s2mm.write(offset - kS2mmBase, value)) reset();
}

void Dma::reset() {
  mm2s.reset();
  s2mm.reset();
  reset_left_ = reset_cycles_;
}

}  // namespace soc
