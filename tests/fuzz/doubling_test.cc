// SPDX-License-Identifier: Apache-2.0
// Parsers take linear time: twice the input, less than three times the time. CPU time of this
// thread, the best of several, so that other work on the machine does not matter.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <string>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "config/model_config.h"
#include "config/yaml.h"
#include "plugin/plugin_host.h"
#include "support/files.h"
#include "tokenizer/chat/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace pluq {
namespace {

using test::TempDir;

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// The least CPU time of five runs.
double least(const std::function<void()>& work) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const double start = cpu_seconds();
    work();
    best = std::min(best, cpu_seconds() - start);
  }
  return best;
}

// prepare(n) makes an input of n parts and returns what reads it. The parts are doubled until
// reading takes 4 ms, so that the clock is good enough, and at most to `most`.
void expect_linear(int64_t n, int64_t most,
                   const std::function<std::function<void()>(int64_t)>& prepare) {
  double once = least(prepare(n));
  while (once < 0.004 && 4 * n <= most) {
    n *= 2;
    once = least(prepare(n));
  }
  // A quadratic part shows as a factor of four. Another try, because a cache may be shared.
  double twice = 0;
  for (int i = 0; i < 3; ++i) {
    twice = least(prepare(2 * n));
    if (twice < 3 * once + 0.001) return;
    once = least(prepare(n));
  }
  FAIL() << n << " parts took " << once * 1e3 << " ms, " << 2 * n << " took " << twice * 1e3
         << " ms";
}

std::string repeated(int64_t n, const std::function<std::string(int64_t)>& part,
                     const std::string& between = ",") {
  std::string out;
  for (int64_t i = 0; i < n; ++i) out += (i > 0 ? between : "") + part(i);
  return out;
}

std::string number(int64_t i) { return std::to_string(i); }

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string gguf_text(const std::string& s) { return raw<uint64_t>(s.size()) + s; }

TEST(Doubling, JsonKeysAndValues) {
  expect_linear(10'000, 1'000'000, [](int64_t n) -> std::function<void()> {
    const std::string text =
        "{" + repeated(n, [](int64_t i) { return "\"key" + number(i) + "\":[1,\"a\\n\"]"; }) + "}";
    return [text] { parse_json(text, "test"); };
  });
}

TEST(Doubling, SafetensorsHeader) {
  const TempDir dir;
  expect_linear(2'000, 200'000, [&](int64_t n) -> std::function<void()> {
    const std::string header = "{" +
                               repeated(n,
                                        [](int64_t i) {
                                          return "\"t" + number(i) +
                                                 R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
                                                 number(i) + "," + number(i + 1) + "]}";
                                        }) +
                               "}";
    const std::string path =
        dir.write("model.safetensors",
                  raw<uint64_t>(header.size()) + header + std::string(static_cast<size_t>(n), 'x'));
    return [path] { read_safetensors(MappedFile::open(path)); };
  });
}

TEST(Doubling, ShardIndex) {
  const TempDir dir;
  expect_linear(2'000, 200'000, [&](int64_t n) -> std::function<void()> {
    const std::string header = "{" +
                               repeated(n,
                                        [](int64_t i) {
                                          return "\"t" + number(i) +
                                                 R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
                                                 number(i) + "," + number(i + 1) + "]}";
                                        }) +
                               "}";
    dir.write("a.safetensors",
              raw<uint64_t>(header.size()) + header + std::string(static_cast<size_t>(n), 'x'));
    dir.write("model.safetensors.index.json", R"({"weight_map":{)" + repeated(n, [](int64_t i) {
                                                return "\"t" + number(i) + R"(":"a.safetensors")";
                                              }) + "}}");
    return [&dir] { Checkpoint::open(dir.path()); };
  });
}

TEST(Doubling, GgufKeysTokensAndTensors) {
  const TempDir dir;
  expect_linear(2'000, 200'000, [&](int64_t n) -> std::function<void()> {
    std::string text = "GGUF" + raw<uint32_t>(3) + raw<uint64_t>(static_cast<uint64_t>(n)) +
                       raw<uint64_t>(static_cast<uint64_t>(n) + 1);
    text += repeated(
        n,
        [](int64_t i) { return gguf_text("k" + number(i)) + raw<uint32_t>(4) + raw<uint32_t>(1); },
        "");
    text += gguf_text("tokens") + raw<uint32_t>(9) + raw<uint32_t>(8) +
            raw<uint64_t>(static_cast<uint64_t>(n));
    text += repeated(
        n, [](int64_t i) { return gguf_text("token" + number(i)); }, "");
    text += repeated(
        n,
        [](int64_t i) {
          return gguf_text("t" + number(i)) + raw<uint32_t>(1) + raw<uint64_t>(8) +
                 raw<uint32_t>(0) + raw<uint64_t>(static_cast<uint64_t>(i) * 32);
        },
        "");
    text.resize((text.size() + 31) / 32 * 32 + static_cast<size_t>(n) * 32);
    const std::string path = dir.write("m.gguf", text);
    return [path] { GgufFile::open(path); };
  });
}

TEST(Doubling, ModelConfigLayers) {
  expect_linear(250, 10'000, [](int64_t n) -> std::function<void()> {
    const auto json = parse_json(
        R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","hidden_size":64,
            "intermediate_size":64,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
            "vocab_size":64,"max_position_embeddings":64,"rms_norm_eps":1e-6,"hidden_act":"silu",
            "rope_theta":10000.0,"num_hidden_layers":)" +
            number(n) + R"(,"layer_types":[)" +
            repeated(n, [](int64_t) { return std::string("\"full_attention\""); }) + "]}",
        "config.json");
    return [json] {
      for (int i = 0; i < 20; ++i) parse_model_config(json, "config.json");
    };
  });
}

TEST(Doubling, QuantizationConfigNamesOfLayers) {
  PluginOptions options;
  options.directories = {PLUQ_FUZZ_PLUGINS};
  options.search_defaults = false;
  static const PluginHost* const host = new PluginHost(options);  // plugins stay loaded
  for (const char* id : {"gptq", "awq", "fp8", "w8a8"}) {
    SCOPED_TRACE(id);
    const FormatHandle& format = host->at(id);
    const std::string method = std::string(id) == "awq"
                                   ? R"("quant_method":"awq","bits":4,"group_size":128,)"
                                   : R"("quant_method":"compressed-tensors","config_groups":{},)";
    expect_linear(1'000, 100'000, [&](int64_t n) -> std::function<void()> {
      const std::string names =
          repeated(n, [](int64_t i) { return "\"model.layers." + number(i) + ".mlp\""; });
      const auto json = parse_json(
          "{" + method + R"("ignore":[)" + names + R"(],"modules_to_not_convert":[)" + names + "]}",
          "config.json");
      return [&format, json] { format.create_config("safetensors", json, {}, "LlamaForCausalLM"); };
    });
  }
}

TEST(Doubling, Yaml) {
  // A file has at most 64 KiB and a map 1000 keys.
  const auto prepare = [](int64_t n) -> std::function<void()> {
    const std::string text = repeated(
        n, [](int64_t i) { return "key" + number(i) + ": {a: 1, b: [x, \"y\"]}\n"; }, "");
    return [text] {
      for (int i = 0; i < 10; ++i) parse_yaml(text, "run.yaml");
    };
  };
  expect_linear(250, 500, prepare);
}

TEST(Doubling, TokenizerVocabularyMergesAndAddedTokens) {
  expect_linear(2'000, 100'000, [](int64_t n) -> std::function<void()> {
    // Tokens of four letters; merges of two pairs of letters each.
    std::string vocabulary, merges;
    int64_t id = 0;
    const auto add = [&](const std::string& token) {
      vocabulary += (id > 0 ? ",\"" : "\"") + token + "\":" + number(id);
      ++id;
    };
    for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c));
    for (char a = 'a'; a <= 'z'; ++a) {
      for (char b = 'a'; b <= 'z'; ++b) {
        add({a, b});
        merges += std::string(merges.empty() ? "\"" : ",\"") + a + ' ' + b + '"';
      }
    }
    for (int64_t i = 0; i < n && i < 26 * 26 * 26 * 26; ++i) {
      const auto letter = [&](int64_t v) { return static_cast<char>('a' + v % 26); };
      const std::string left{letter(i), letter(i / 26)}, right{letter(i / 676), letter(i / 17576)};
      add(left + right);
      merges += ",\"" + left + ' ' + right + '"';
    }
    const std::string text =
        R"({"model":{"type":"BPE","vocab":{)" + vocabulary + R"(},"merges":[)" + merges +
        R"(]},"pre_tokenizer":{"type":"Whitespace"},"added_tokens":[)" +
        repeated(
            n,
            [&](int64_t i) {
              return R"({"id":)" + number(id + i) + R"(,"content":"<t)" + number(i) +
                     R"(>","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false})";
            }) +
        "]}";
    return [text] { Tokenizer::from_json(parse_json(text, "tokenizer.json"), "tokenizer.json"); };
  });
}

TEST(Doubling, ChatTemplateSource) {
  expect_linear(500, 20'000, [](int64_t n) -> std::function<void()> {
    const std::string text = repeated(
        n,
        [](int64_t i) {
          return "{% if messages[0]['role'] == 'user' %}a" + number(i) + "{{ 1 + " + number(i) +
                 " }}{% endif %}\n";
        },
        "");
    return [text] { ChatTemplate::parse(text, "template"); };
  });
}

TEST(Doubling, ChatTemplateMessages) {
  const auto parsed = ChatTemplate::parse(
      "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] | trim }}\n{% endfor %}",
      "template");
  expect_linear(200, 20'000, [&](int64_t n) -> std::function<void()> {
    const auto variables =
        parse_json(R"({"messages":[)" +
                       repeated(n,
                                [](int64_t i) {
                                  return R"({"role":"user","content":" text )" + number(i) + "\"}";
                                }) +
                       "]}",
                   "messages");
    return [&parsed, variables] { parsed->render(variables.as_object(), 0); };
  });
}

}  // namespace
}  // namespace pluq
