// SPDX-License-Identifier: Apache-2.0
// Today's binaries and a later version's, both ways: longer tables and structs with garbage behind
// what is known today, larger strides, unknown ids; and shorter structs that end at an inaccessible
// page.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "conformance/cases.h"
#include "conformance/kit.h"
#include "conformance/reference.h"
#include "device/device.h"
#include "device/exec.h"
#include "plugin/plugin_host.h"
#include "support/files.h"

namespace pluq::conformance {
namespace {

namespace fs = std::filesystem;

// T as a later version has it: the same, a size that says more, and garbage up to an inaccessible
// page.
template <class T>
Guarded later(const T& now, size_t more = 40) {
  Guarded out(sizeof(T) + more, alignof(T));
  std::memset(out.data(), 0xa5, out.size());
  std::memcpy(out.data(), &now, sizeof now);
  const auto size = static_cast<uint32_t>(out.size());
  std::memcpy(out.data(), &size, sizeof size);
  return out;
}

// The tensors with a larger stride.
Guarded later_tensors(const std::vector<pluq_tensor>& tensors, size_t stride) {
  Guarded out(tensors.size() * stride, 8);
  std::memset(out.data(), 0xa5, out.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    pluq_tensor t = tensors[i];
    t.struct_size = static_cast<uint32_t>(stride);
    std::memcpy(out.data() + i * stride, &t, sizeof t);
  }
  return out;
}

Subject subject_of(const std::string& path) {
  return {path, read_elf(MappedFile::open(path)->bytes()), 1};
}

std::vector<std::string> plugins() {
  std::vector<std::string> out;
  for (const auto& entry :
       fs::directory_iterator(std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins")) {
    if (entry.path().extension() == ".so") out.push_back(entry.path().string());
  }
  return out;
}

pluq_layer_desc describe_layer(const Case& c, const pluq_tensor* tensors, size_t stride) {
  pluq_layer_desc d{};
  d.compute = PLUQ_COMPUTE_FAST;
  d.name = str_of("layer");
  d.kind = str_of("linear");
  d.module_class = str_of("Linear");
  d.in_features = d.in_end = c.k;
  d.out_features = d.out_end = c.n;
  d.activation_dtype = {PLUQ_DTYPE_F32, 1, 4};
  d.max_tokens = 512;
  d.max_workspace_bytes = uint64_t{1} << 30;
  d.tensors_known = 1;
  d.tensors = tensors;
  d.tensor_stride = stride;
  d.tensor_count = c.tensors.size();
  return d;
}

// The life of one method with all structs a later version's. Returns y.
std::vector<float> life_in_the_future(const Case& c, const std::vector<float>& x, int64_t m,
                                      ThreadPool& pool) {
  constexpr size_t kStride = sizeof(pluq_tensor) + 32, kSpecStride = sizeof(pluq_weight_spec) + 16;
  const Guarded tensors = later_tensors(c.tensors, kStride);
  const auto* first = tensors.as<pluq_tensor>();
  pluq_config_request request{};
  request.container = str_of("safetensors");
  request.quantization = c.quantization.is_null() ? nullptr : json_cursor(&c.quantization);
  const Guarded long_request = later(request);
  pluq_config config{};
  ok(c.raw.api->create_config(c.raw.self, long_request.as<pluq_config_request>(), &config),
     "create_config");
  const Guarded desc = later(describe_layer(c, first, kStride)), device = later(describe_cpu(1));
  pluq_method_choice choice{};
  const Guarded long_choice = later(choice);
  ok(config.api->get_quant_method(config.self, desc.as<pluq_layer_desc>(), device.as<pluq_device>(),
                                  long_choice.as<pluq_method_choice>()),
     "get_quant_method");
  EXPECT_EQ(long_choice.as<pluq_method_choice>()->struct_size, sizeof choice + 40)
      << "the caller's struct_size was changed";
  EXPECT_EQ(long_choice.as<pluq_method_choice>()->verdict, PLUQ_VERDICT_USE);
  const pluq_method method = long_choice.as<pluq_method_choice>()->method;

  size_t count = 0;
  ok(method.api->create_weights(method.self, nullptr, kSpecStride, &count), "create_weights");
  Guarded specs(count * kSpecStride, 8);
  std::memset(specs.data(), 0xa5, specs.size());
  for (size_t i = 0; i < count; ++i) {
    const uint32_t size = kSpecStride;
    std::memcpy(specs.data() + i * kSpecStride, &size, sizeof size);
  }
  ok(method.api->create_weights(method.self, specs.as<pluq_weight_spec>(), kSpecStride, &count),
     "create_weights");

  pluq_process_plan plan{};
  const Guarded long_plan = later(plan);
  ok(method.api->process_plan(method.self, first, kStride, c.tensors.size(),
                              long_plan.as<pluq_process_plan>()),
     "process_plan");
  plan = *long_plan.as<pluq_process_plan>();
  const Guarded buffer(plan.buffer_bytes, 64), scratch(plan.scratch_bytes, 64);
  const HostExec host_exec(pool, -1, scratch.bytes(), &host_table());
  const Guarded load_exec = later(*host_exec.get());
  ok(method.api->process_weights_after_loading(method.self, load_exec.as<pluq_exec>(), first,
                                               kStride, c.tensors.size(), buffer.data()),
     "process");
  pluq_method_info info{};
  info.activation_scheme.struct_size = sizeof info.activation_scheme;
  const Guarded long_info = later(info);
  method.api->describe(method.self, long_info.as<pluq_method_info>());

  const Guarded work(method.api->workspace(method.self, m, 1), 64);
  const HostExec run_exec(pool, -1, work.bytes(), &host_table());
  const Guarded exec = later(*run_exec.get());
  std::vector<float> y(static_cast<size_t>(m * c.n));
  const Guarded in = later(pluq_activation{
      0, PLUQ_DEVICE_CPU, x.data(), {PLUQ_DTYPE_F32, 1, 4}, m, c.k, c.k, nullptr, nullptr});
  const Guarded out =
      later(pluq_output{0, PLUQ_DEVICE_CPU, y.data(), {PLUQ_DTYPE_F32, 1, 4}, m, c.n, c.n});
  ok(method.api->apply(method.self, exec.as<pluq_exec>(), in.as<pluq_activation>(), nullptr,
                       out.as<pluq_output>()),
     "apply");
  EXPECT_EQ(method.api->get_extension == nullptr
                ? nullptr
                : method.api->get_extension(method.self, "pluq.from_the_future/3"),
            nullptr);
  method.api->destroy(method.self);
  config.api->destroy(config.self);
  return y;
}

TEST(Compatibility, ALaterHostAndTodaysPlugins) {
  ASSERT_GE(plugins().size(), 5u);
  ThreadPool pool(1);
  for (const std::string& path : plugins()) {
    SCOPED_TRACE(path);
    const Opened opened = open_subject(subject_of(path));
    static std::vector<Guarded>& hosts =
        *new std::vector<Guarded>;  // a host lives as long as the process
    hosts.push_back(later(host_table(), 128));
    const Answer answer = call_entry(opened, *hosts.back().as<pluq_host>(), PLUQ_ABI_MAJOR, 0, 99);
    ASSERT_EQ(answer.error, "");
    Ready ready_plugin;
    ready_plugin.opened = opened;
    ready_plugin.raw = answer.formats;
    for (const pluq_format& f : answer.formats)
      ready_plugin.formats.push_back(std::make_unique<FormatHandle>(f, path));
    for (const Case& c : make_cases(ready_plugin, 0, pool, 64, 256, 1, false)) {
      Instance today(c, best_setting(1));
      std::string why;
      ASSERT_TRUE(today.process(pool, &why)) << why;
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(today, 3, 1, &rounded);
      const Guarded work(today.workspace(3, 1), 64);
      const HostExec exec(pool, -1, work.bytes(), &host_table());
      std::vector<float> y(static_cast<size_t>(3 * c.n));
      ok(today.apply(exec.get(), x.data(), c.k, 3, nullptr, y.data(), c.n), "apply");
      EXPECT_EQ(y, life_in_the_future(c, x, 3, pool))
          << c.label << ": longer structs change the result";
    }
  }
}

// What today's plugins do not know they answer, they do not fail.
TEST(Compatibility, UnknownDevicesKindsAndDtypes) {
  ThreadPool pool(1);
  for (const std::string& path : plugins()) {
    SCOPED_TRACE(path);
    const Ready plugin = ready(subject_of(path));
    for (const Case& c : make_cases(plugin, 0, pool, 64, 256, 1, false)) {
      for (int what = 0; what < 4; ++what) {
        std::vector<pluq_tensor> tensors = c.tensors;
        if (what == 2) tensors[0].dtype = {0x7777, 3, 5};
        pluq_layer_desc d = describe_layer(c, tensors.data(), sizeof(pluq_tensor));
        d.struct_size = sizeof d;
        pluq_device device = describe_cpu(1);
        // A host that tells no cache sizes: its pluq_device ends, at a page, where today's goes on.
        const Guarded short_device(offsetof(pluq_device, l1d_bytes), 8);
        if (what == 0) device.kind = 77;
        if (what == 1) d.kind = str_of("com.example.new_kind");
        std::memcpy(short_device.data(), &device, short_device.size());
        short_device.as<pluq_device>()->struct_size = static_cast<uint32_t>(short_device.size());
        pluq_config_request request{};
        request.struct_size = sizeof request;
        request.container = str_of("safetensors");
        request.quantization = c.quantization.is_null() ? nullptr : json_cursor(&c.quantization);
        pluq_config config{};
        ok(c.raw.api->create_config(c.raw.self, &request, &config), "create_config");
        char reason[512] = {};
        pluq_method_choice choice{};
        choice.struct_size = sizeof choice;
        choice.reason = {reason, sizeof reason, 0};
        pluq_status* status =
            config.api->get_quant_method(config.self, &d, short_device.as<pluq_device>(), &choice);
        if (status != nullptr) {
          EXPECT_NE(take_text(status), "") << what;
        } else if (choice.verdict == PLUQ_VERDICT_USE) {
          choice.method.api->destroy(choice.method.self);
        } else {
          EXPECT_GT(choice.reason.size, 0u) << what;
        }
        if (what == 3) {
          EXPECT_EQ(choice.verdict, PLUQ_VERDICT_USE) << "a shorter pluq_device is not taken";
        }
        config.api->destroy(config.self);
      }
    }
  }
}

TEST(Compatibility, ALaterPluginAndTodaysHost) {
  const test::TempDir dir;
  fs::copy_file(FUTURE_PLUGIN, dir.path() + "/future.so");
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  const PluginHost host(o);
  ASSERT_TRUE(host.reports().at(0).loaded) << host.reports().at(0).reason;
  const FormatHandle& f = host.at("c11_rowwise");
  ASSERT_EQ(f.options().size(), 2u);
  EXPECT_EQ(host.reports().at(0).abi, "1.99");
  EXPECT_EQ(f.options()[1].key, "two");
  EXPECT_TRUE(f.can_quantize());
  conformance::Options options;
  options.path = FUTURE_PLUGIN;
  const Report report = check_plugin(options, {});
  for (const Result& r : report.results)
    EXPECT_NE(r.status, "fail") << r.group << "." << r.name << ": " << r.text;
  EXPECT_GT(report.count("pass"), 30);
}

}  // namespace
}  // namespace pluq::conformance
