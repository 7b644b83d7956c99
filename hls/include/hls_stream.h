// SPDX-License-Identifier: Apache-2.0
// FIFO channels with the vendor's name: queues in a native build, hardware channels under __SYNTHESIS__.
#ifndef E2HLS_HLS_STREAM_H
#define E2HLS_HLS_STREAM_H

#ifdef __SYNTHESIS__
  #include "hls_stream_synthesis.h"
#else
  #include "hls_stream_native.h"
#endif

#endif  // E2HLS_HLS_STREAM_H
