// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured: memory bandwidth and arithmetic peaks, to compare
// kernels with.
#pragma once

#include "device/isa.h"
#include "device/memory.h"
#include "device/thread_pool.h"
#include "pluq/cpu/probe.h"

namespace pluq {

// Memory to read in the bandwidth probe: larger than any cache, touched.
Buffer bandwidth_memory();

// GB/s (10^9) of reading `memory` with all workers: the best of several forms of reading.
double measure_bandwidth(ThreadPool& pool, Isa isa, const Buffer& memory);

// 10^9 operations per second of all workers (a multiply-add counts 2) in about `seconds`.
double measure_peak(ThreadPool& pool, Isa isa, cpu::ProbePeak kind, double seconds);

}  // namespace pluq
