// SPDX-License-Identifier: Apache-2.0
#include "dma.hpp"

#include <algorithm>

namespace soc {

namespace {

constexpr uint32_t kControlAt = 0x00;
constexpr uint32_t kS2mmBase = 0x30;
constexpr uint32_t kSpan = 0x30;

}  // namespace

void Mm2s::reset() {
  reset_registers();
  clear();
}

void Mm2s::clear() {
  head_ = waiting_ = to_request_ = 0;
  valid_ = ends_ = false;
}

bool Mm2s::sound(const Piece& piece) const { return piece.last || piece.bytes % kBeatBytes == 0; }

void Mm2s::before_edge(uint64_t now) {
  if (to_request_ == 0 && waiting_ < ddr_.timing.outstanding && take(asked_)) {
    request_address_ = asked_.address;
    to_request_ = asked_.bytes;
  }
  if (to_request_ != 0 && waiting_ < ddr_.timing.outstanding) request(now);
  if (!valid_ && waiting_ != 0) load_beat(now);
}

void Mm2s::request(uint64_t now) {
  const uint32_t to_page_end = kPageBytes - static_cast<uint32_t>(request_address_ % kPageBytes);
  const uint32_t bytes = std::min({to_request_, to_page_end, ddr_.timing.burst_beats * kBeatBytes});
  const bool decoded = ddr_.holds(request_address_, bytes);
  bursts_[(head_ + waiting_++) % kMaxOutstanding] = {
      now + ddr_.timing.read_latency, request_address_, bytes, decoded, bytes == to_request_, asked_};
  request_address_ += bytes;
  to_request_ -= bytes;
}

void Mm2s::load_beat(uint64_t now) {
  Burst& burst = bursts_[head_];
  if (now < burst.ready_cycle) return;
  if (!burst.decoded) {
    fail(kDecErr, burst.piece);
    return;
  }
  if (!ddr_.has(kBeatBytes)) return;
  ddr_.take(kBeatBytes);
  const uint32_t bytes = std::min(burst.bytes, kBeatBytes);
  data_ = ddr_.load(burst.address, bytes);
  burst.address += bytes;
  burst.bytes -= bytes;
  piece_ = burst.piece;
  ends_ = burst.bytes == 0 && burst.ends;
  if (burst.bytes == 0) {
    head_ = (head_ + 1) % kMaxOutstanding;
    --waiting_;
  }
  valid_ = true;
}

void Mm2s::after_edge(uint64_t now, bool ready) {
  if (!valid_ || !ready) return;
  beats_.add(now);
  valid_ = false;
  if (failed_as_planned(piece_)) return;
  if (ends_) {
    finish(piece_, piece_.bytes, 0, now);
    settle(now);
  }
}

void S2mm::reset() {
  reset_registers();
  clear();
}

void S2mm::clear() {
  receiving_ = in_packet_ = false;
  received_ = 0;
}

bool S2mm::sound(const Piece& piece) const { return !scatter_gather() || piece.bytes % kBeatBytes == 0; }

bool S2mm::before_edge(uint64_t now) {
  if (!receiving_ && take(piece_)) {
    receiving_ = true;
    flags_ = in_packet_ ? 0 : kStartOfFrame;
    received_ = 0;
  }
  return receiving_ && ddr_.has(kBeatBytes);
}

void S2mm::after_edge(uint64_t now, bool valid, uint64_t data, bool last) {
  if (!valid) return;
  beats_.add(now);
  if (failed_as_planned(piece_)) return;
  if (received_ + kBeatBytes > piece_.bytes) {
    fail(kIntErr, piece_);
    return;
  }
  if (!ddr_.holds(piece_.address + received_, kBeatBytes)) {
    fail(kDecErr, piece_);
    return;
  }
  ddr_.take(kBeatBytes);
  ddr_.store(piece_.address + received_, data);
  received_ += kBeatBytes;
  in_packet_ = !last;
  piece_.last = last;
  // In direct register mode a full buffer waits for the packet's end, or fails at one beat more.
  if (last || (scatter_gather() && received_ == piece_.bytes)) {
    receiving_ = false;
    finish(piece_, received_, flags_ | (last ? kEndOfFrame : 0), now + ddr_.timing.write_latency);
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

void Dma::step_descriptors(uint64_t now) {
  step_port(now);
  mm2s.settle(now);
  s2mm.settle(now);
}

void Dma::step_port(uint64_t now) {
  if (mm2s.fetching() || s2mm.fetching()) {
    (mm2s.fetching() ? static_cast<Channel&>(mm2s) : s2mm).fetch(now);
    return;
  }
  Channel& first = turn_ ? static_cast<Channel&>(s2mm) : mm2s;
  Channel& second = turn_ ? static_cast<Channel&>(mm2s) : s2mm;
  if (first.write_status(now) || second.write_status(now)) return;
  if (first.begin_fetch(now) || second.begin_fetch(now)) turn_ = !turn_;
}

}  // namespace soc
