// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/dtype.h"
#include "checkpoint/gguf_model.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kIndex = "model.safetensors.index.json";

bool ends_with(std::string_view s, std::string_view tail) {
  return s.size() >= tail.size() && s.substr(s.size() - tail.size()) == tail;
}

// A shard name read from inside a file must be one plain base name, so that it cannot leave the
// directory.
void check_plain_name(const std::string& index, const std::string& name) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain || !ends_with(name, ".safetensors")) {
    fail_input("{}: shard name '{}' is not a plain *.safetensors file name", index,
               printable(name));
  }
}

std::vector<std::string> file_names(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ec;
  for (fs::directory_iterator it(directory, ec), end; !ec && it != end; it.increment(ec)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

void Checkpoint::add(SafetensorsFile file) {
  maps_.push_back(file.map);
  for (TensorView& tensor : file.tensors) tensors_.push_back(std::move(tensor));
}

void Checkpoint::finish() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors_.size(); ++i) {
    if (tensors_[i - 1].name == tensors_[i].name) {
      fail_input("{}: tensor '{}' is in more than one shard", path_, printable(tensors_[i].name));
    }
  }
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::string& path) {
  std::shared_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->path_ = path;
  std::error_code ec;
  if (fs::is_regular_file(path, ec)) {
    if (!ends_with(path, ".gguf")) {
      fail_input("{}: not a model; give a directory in HF layout or a .gguf file", path);
    }
    checkpoint->gguf_ = GgufFile::open(path);
    GgufModel model = describe_gguf(*checkpoint->gguf_);
    checkpoint->gguf_config_ = std::move(model.config);
    for (GgufTensor& t : model.tensors) {
      if (!t.as_stored()) {
        t.view.data = checkpoint->changed_.emplace_back(gguf_hf_bytes(*checkpoint->gguf_, t));
      }
      t.view.name = std::move(t.name);
      checkpoint->tensors_.push_back(std::move(t.view));
    }
    checkpoint->finish();
    return checkpoint;
  }
  if (!fs::is_directory(path, ec)) fail_input("{}: no such model directory or .gguf file", path);

  const std::string index_path = path + "/" + std::string(kIndex);
  if (fs::exists(index_path, ec)) {
    const boost::json::value index = parse_json_file(index_path);
    const boost::json::value* map =
        index.is_object() ? index.get_object().if_contains("weight_map") : nullptr;
    if (map == nullptr || !map->is_object())
      fail_input("{}: 'weight_map' is missing or not an object", index_path);
    std::set<std::string> shards;
    for (const auto& [name, shard] : map->get_object()) {
      if (!shard.is_string())
        fail_input("{}: the shard of '{}' is not a string", index_path, printable(name));
      shards.insert(std::string(shard.get_string()));
    }
    if (shards.size() > 10'000)
      fail_input("{}: names {} shards, at most 10000", index_path, shards.size());
    for (const std::string& shard : shards) {
      check_plain_name(index_path, shard);
      SafetensorsFile file = read_safetensors(MappedFile::open(path + "/" + shard));
      for (const TensorView& tensor : file.tensors) {
        const boost::json::value* home = map->get_object().if_contains(tensor.name);
        if (home == nullptr || home->get_string() != shard) {
          fail_input("{}/{}: holds tensor '{}', which the index {}", path, shard,
                     printable(tensor.name),
                     home == nullptr ? "does not name" : "places in another shard");
        }
      }
      checkpoint->add(std::move(file));
    }
    checkpoint->finish();
    for (const auto& [name, shard] : map->get_object()) {
      if (checkpoint->find(name) == nullptr) {
        fail_input("{}: tensor '{}' is not in its shard {}", index_path, printable(name),
                   printable(std::string(shard.get_string())));
      }
    }
    return checkpoint;
  }

  const std::vector<std::string> names = file_names(path);
  std::vector<std::string> tensors_files;
  std::string pickled;
  for (const std::string& name : names) {
    if (ends_with(name, ".safetensors")) tensors_files.push_back(name);
    for (const char* tail : {".bin", ".pt", ".pth", ".ckpt", ".pkl"}) {
      if (ends_with(name, tail)) pickled = name;
    }
  }
  if (std::find(names.begin(), names.end(), "model.safetensors") != names.end()) {
    tensors_files = {"model.safetensors"};
  }
  if (tensors_files.empty() && !pickled.empty()) {
    fail_input(
        "{}: {} is a pickle file, which can run code when it is read; pluq reads safetensors and "
        "GGUF only",
        path, pickled);
  }
  if (tensors_files.size() != 1) {
    fail_input("{}: expected {}, model.safetensors or one other *.safetensors file, found {}", path,
               kIndex,
               tensors_files.empty() ? "none" : fmt::format("{}", fmt::join(tensors_files, ", ")));
  }
  checkpoint->add(read_safetensors(MappedFile::open(path + "/" + tensors_files[0])));
  checkpoint->finish();
  return checkpoint;
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorView& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

const TensorView& Checkpoint::at(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return *tensor;
  std::string near;
  const std::string_view stem = name.substr(0, name.rfind('.'));
  for (const TensorView* t : with_prefix(stem)) {
    if (near.size() < 200) near += (near.empty() ? "; similar names: " : ", ") + printable(t->name);
  }
  fail_input("{}: tensor '{}' is missing{}", path_, printable(name), near);
}

std::vector<const TensorView*> Checkpoint::with_prefix(std::string_view prefix) const {
  std::vector<const TensorView*> out;
  auto it = std::lower_bound(tensors_.begin(), tensors_.end(), prefix,
                             [](const TensorView& t, std::string_view p) { return t.name < p; });
  for (; it != tensors_.end() && std::string_view(it->name).substr(0, prefix.size()) == prefix;
       ++it) {
    out.push_back(&*it);
  }
  return out;
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t bytes = 0;
  for (const TensorView& t : tensors_) bytes += t.data.size();
  return bytes;
}

}  // namespace pluq
