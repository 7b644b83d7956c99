// SPDX-License-Identifier: Apache-2.0
#include "channel.hpp"

namespace soc {

namespace {

constexpr uint32_t kControlAt = 0x00;
constexpr uint32_t kStatusAt = 0x04;
constexpr uint32_t kCurrentAt = 0x08;
constexpr uint32_t kTailAt = 0x10;
constexpr uint32_t kAddressAt = 0x18;
constexpr uint32_t kAddressHighAt = 0x1C;
constexpr uint32_t kLengthAt = 0x28;
// What a driver may set: RS, keyhole, interrupt enables, threshold and delay.
constexpr uint32_t kControlWritable = 0xFFFF7009;

constexpr uint32_t kDescriptorWords = 8;
constexpr uint32_t kWordBytes = 4;
constexpr uint32_t kBufferOffset = 0x08;
constexpr uint32_t kControlOffset = 0x18;

uint64_t with_low(uint64_t whole, uint32_t half) { return (whole & ~0xFFFFFFFFull) | half; }
uint64_t with_high(uint64_t whole, uint32_t half) {
  return (whole & 0xFFFFFFFFull) | static_cast<uint64_t>(half) << 32;
}

}  // namespace

uint32_t Channel::read(uint32_t offset) const {
  if (offset == kControlAt) return control_;
  if (offset == kStatusAt) return status_ | (scatter_gather_ ? kSgIncluded : 0);
  if (scatter_gather_) {
    switch (offset) {
      case kCurrentAt:
        return static_cast<uint32_t>(current_);
      case kTailAt:
        return static_cast<uint32_t>(tail_);
      default:
        return 0;
    }
  }
  switch (offset) {
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
  const bool halted = status_ & kHalted;
  const bool runs = (control_ & kRunStop) && !halted;
  if (offset == kControlAt) {
    if (value & kReset) return true;
    run_or_stop(value);
  } else if (offset == kStatusAt) {
    status_ &= ~(value & kIrqMask);
  } else if (scatter_gather_) {
    const uint32_t pointer = value & ~(kDescriptorAlignment - 1);
    if (offset == kCurrentAt && halted) current_ = pointer;
    if (offset == kTailAt) {
      tail_ = pointer;
      if (runs) start_fetching();
    }
  } else {
    if (offset == kAddressAt) address_ = with_low(address_, value);
    if (offset == kAddressHighAt) address_ = with_high(address_, value);
    if (offset == kLengthAt && runs && !active_) start_transfer(value & kLengthMask);
  }
  return false;
}

void Channel::run_or_stop(uint32_t value) {
  const bool ran = control_ & kRunStop;
  control_ = (value & kControlWritable) | (kControlDefault & 2u);
  if (control_ & kRunStop) {
    if (scatter_gather_ && (status_ & kHalted)) {
      next_ = current_;
      status_ |= kIdle;
    }
    status_ &= ~kHalted;
    return;
  }
  // Stopping waits for the pieces under way; settle() halts then.
  if (ran && scatter_gather_) {
    pieces_.clear();
    fetching_ = false;
    paused_ = true;
  }
  if (!active_) {
    status_ |= kHalted;
    if (scatter_gather_) status_ &= ~kIdle;
  }
}

void Channel::start_transfer(uint32_t length) {
  length_ = length;
  status_ &= ~kIdle;
  beats_ = Beats{};
  active_ = true;
  clear();
  pieces_.push_back({address_, length, true, 0});
}

void Channel::start_fetching() {
  paused_ = false;
  if (active_) return;
  active_ = true;
  status_ &= ~kIdle;
  beats_ = Beats{};
  clear();
}

bool Channel::begin_fetch(uint64_t now) {
  if (!active_ || paused_ || pieces_.size() >= kQueue) return false;
  fetching_ = true;
  word_cycle_ = now + ddr_.timing.read_latency;
  words_ = 0;
  return true;
}

void Channel::fetch(uint64_t now) {
  if (now < word_cycle_) return;
  if (next_ % kDescriptorAlignment != 0 || !ddr_.holds(next_, kDescriptorAlignment)) {
    current_ = next_;
    halt_with(kSgDecErr);
    return;
  }
  if (planned_ & kSgErrors) {
    current_ = next_;
    halt_with(planned_);
    planned_ = 0;
    return;
  }
  if (!ddr_.has(kWordBytes)) return;
  ddr_.take(kWordBytes);
  if (++words_ == kDescriptorWords) parse();
}

void Channel::parse() {
  fetching_ = false;
  const uint64_t at = next_;
  const uint64_t words = ddr_.load(at + kControlOffset, 8);
  const uint32_t control = static_cast<uint32_t>(words);
  if ((words >> 32) & kComplete) {
    current_ = at;
    halt_with(kSgIntErr);
    return;
  }
  pieces_.push_back(
      {ddr_.load(at + kBufferOffset, 8), control & kLengthMask, (control & kEndOfFrame) != 0, at});
  next_ = ddr_.load(at, 8);
  paused_ = at == tail_;
}

bool Channel::write_status(uint64_t now) {
  if (!scatter_gather_ || updates_.empty() || now < updates_.front().due || !ddr_.has(kWordBytes)) {
    return false;
  }
  ddr_.take(kWordBytes);
  const Update& update = updates_.front();
  store_status(update.piece.descriptor, update.bytes | update.flags | kComplete);
  if (update.piece.last) status_ |= kIocIrq;
  updates_.pop_front();
  return true;
}

void Channel::settle(uint64_t now) {
  if (!active_) return;
  if (scatter_gather_) {
    if (fetching_ || !paused_ || !pieces_.empty() || !updates_.empty() || moving_ != 0) return;
    status_ |= kIdle;
  } else {
    if (updates_.empty() || now < updates_.front().due) return;
    length_ = updates_.front().bytes;
    updates_.pop_front();
    status_ |= kIdle | kIocIrq;
  }
  active_ = false;
  if (!(control_ & kRunStop)) {
    status_ |= kHalted;
    if (scatter_gather_) status_ &= ~kIdle;
  }
}

bool Channel::take(Piece& piece) {
  if (pieces_.empty()) return false;
  piece = pieces_.front();
  pieces_.pop_front();
  current_ = piece.descriptor;
  ++moving_;
  if (piece.bytes != 0 && piece.address % kBeatBytes == 0 && sound(piece)) return true;
  fail(kIntErr, piece);
  return false;
}

void Channel::finish(const Piece& piece, uint32_t bytes, uint32_t flags, uint64_t due) {
  --moving_;
  updates_.push_back({piece, bytes, flags, due});
}

void Channel::fail(uint32_t bit, const Piece& piece) {
  if (scatter_gather_) {
    current_ = piece.descriptor;
    store_status(piece.descriptor, bit << kErrorShift);
  }
  halt_with(bit);
}

// What has been moved before is entered in its descriptors, the rest forgotten.
void Channel::halt_with(uint32_t bit) {
  if (scatter_gather_) {
    for (const Update& update : updates_) {
      store_status(update.piece.descriptor, update.bytes | update.flags | kComplete);
    }
    status_ &= ~kIdle;
  }
  pieces_.clear();
  updates_.clear();
  moving_ = 0;
  active_ = fetching_ = false;
  paused_ = true;
  clear();
  control_ &= ~kRunStop;
  status_ |= bit | kErrIrq | kHalted;
}

bool Channel::failed_as_planned(const Piece& piece) {
  if (!(planned_ & kDataErrors)) return false;
  fail(planned_, piece);
  planned_ = 0;
  return true;
}

void Channel::reset_registers() {
  control_ = kControlDefault;
  status_ = kHalted;
  address_ = current_ = tail_ = next_ = 0;
  length_ = moving_ = 0;
  active_ = fetching_ = false;
  paused_ = true;
  pieces_.clear();
  updates_.clear();
}

}  // namespace soc
