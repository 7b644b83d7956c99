// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "messages.hpp"

// The outgoing words of one reply.
inline void put(Word word, bool last, hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  Beat beat;
  beat.data = word;
  beat.keep = -1;
  beat.strb = -1;
  beat.last = last;
  words_out.write(beat);
}

// What a trailer says of a frame, and of those before it that have held back their reports.
struct Account {
  CheckSums written;  // of results
  ap_uint<32> nonce;  // the sum of all
  ap_uint<32> sent;   // words of these
  ap_uint<32> words;  // taken from the input
  Word read;          // their check sum
  ap_uint<32> iterations;
  ap_uint<32> saturations;
  ap_uint<31> largest;

  void clear() {
    #pragma HLS INLINE
    written.clear();
    nonce = 0;
    sent = 0;
    words = 0;
    read = 0;
    iterations = 0;
    saturations = 0;
    largest = 0;
  }
};

// Send the trailer, whose last two words check it and the sums of planes before it; the reply to identify
// has two words more.
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, unsigned int kConfigHash>
void send_trailer(const ReportCommand& command, Account& account, CheckSums& checked,
                  hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  constexpr int kIdentityWords = 2;
  constexpr int kChecks = kIdentityWords + kTrailerWords - 2;  // the last two words
  const bool identify = command.identify && command.good;
  const ap_uint<32> words =
      identify ? ap_uint<32>(kIdentityWords) : ap_uint<32>(account.sent + command.side_words);
  const ap_uint<4> end = kIdentityWords + kTrailerWords;
  const ap_uint<4> first = identify ? 0 : kIdentityWords;
  bool own = identify;  // the word is one of its identity
  bool check = false;   // or of the checks
trailer:
  for (ap_uint<4> i = command.holds ? end : first; i < end; ++i) {
    #pragma HLS PIPELINE II=1
    const Word lanes = (Word(kXDepth) << 32) | (kOcLanes << 16) | kIcLanes;
    const Word depth = (Word(kConfigHash) << 32) | kWDepth;
    Word said[16];
    said[0] = lanes;
    said[1] = depth;
    said[2] = trailer::Magic::to(kReplyMagic) | trailer::Version::to(kVersion) |
              trailer::Status::to(command.status) | trailer::Nonce::to(account.nonce);
    said[3] = trailer::Iterations::to(account.iterations) | trailer::Saturations::to(account.saturations);
    said[4] = trailer::WordsIn::to(account.words) | trailer::WordsOut::to(words);
    said[5] = trailer::Largest::to(account.largest);
    said[6] = command.good ? account.read : Word(0);
    said[7] = account.written.s1;
    said[8] = account.written.s2();
  rest:
    for (int k = kChecks; k < 16; ++k) {
      #pragma HLS UNROLL
      said[k] = 0;
    }
    // No sum is added to itself: what a sum adds is chosen without it.
    const Word plain = mux_tree<16>(said, i);
    const Word of_checks = i[0] == (kChecks & 1) ? checked.s1 : checked.s2();
    put(check ? of_checks : plain, i == kChecks + 1 && command.last, words_out);
    account.written.add(i[0] ? depth : lanes, own);
    checked.add(plain, !own && !check);
    own = own && !i[0];
    check = check || i == kChecks - 1;
  }
}

// Send the reply to a frame: results, then sums of planes and the trailer, for all frames that have held
// theirs back since the last ones.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers, which identify reports
//   kConfigHash         which configuration this is, which identify reports
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, unsigned int kConfigHash>
void report(hls::stream<ReportCommand>& command_in, hls::stream<Result>& results_in,
            hls::stream<SumWord>& sums_in, hls::stream<Summary>& summary_in,
            hls::stream<ap_uint<32>>& iterations_in, hls::stream<Beat>& words_out) {
  static Account account = {};
  const ReportCommand command = command_in.read();
  if (!command.good) {
    account.clear();
  }
  bool done = false;
results:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const Result result = results_in.read();
    if (result.sent) {
      put(result.word, false, words_out);
    }
    account.written.add(result.word, result.sent);
    account.sent += result.sent;
    done = result.last;
  }
  const Summary summary = summary_in.read();
  account.nonce += command.nonce;
  account.words += command.words;
  account.read += command.read;
  account.iterations += iterations_in.read();
  account.saturations += summary.saturations;
  account.largest = summary.largest > account.largest ? summary.largest : account.largest;

  CheckSums checked;
  checked.clear();
  done = command.side_words == 0;
sums:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const SumWord sum = sums_in.read();
    put(sum.word, false, words_out);
    checked.add(sum.word, true);
    done = sum.last;
  }
  send_trailer<kIcLanes, kOcLanes, kXDepth, kWDepth, kConfigHash>(command, account, checked, words_out);
  if (!command.holds) {
    account.clear();
  }
}
