// SPDX-License-Identifier: Apache-2.0
// All primitives for CUDA kernels; see README.md beside this file.
#pragma once

#include "pluq/cuda/async.hpp"
#include "pluq/cuda/barrier.hpp"
#include "pluq/cuda/convert.hpp"
#include "pluq/cuda/hopper.hpp"
#include "pluq/cuda/launch.hpp"
#include "pluq/cuda/memory.hpp"
#include "pluq/cuda/mma.hpp"
#include "pluq/cuda/platform.hpp"
#include "pluq/cuda/warp.hpp"
