// SPDX-License-Identifier: Apache-2.0
// Quantizes one plain layer while the model is loaded, because a rule of the configuration says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/thread_pool.h"
#include "plugin/layer_resolver.h"

namespace pluq {

// Tensors that exist only in memory; methods may keep pointers into them.
struct OwnedTensors {
  std::vector<std::string> names;
  std::vector<std::vector<std::byte>> data;
};

// plain: what the resolver answered, with quantize_with set and the 16- or 32-bit weight bound. The
// new tensors are added to *owned, which must outlive the method.
ResolvedLayer quantize_while_loading(LayerResolver& resolver, const LayerRequest& request,
                                     ResolvedLayer plain, ThreadPool& pool,
                                     std::vector<std::shared_ptr<OwnedTensors>>* owned);

}  // namespace pluq
