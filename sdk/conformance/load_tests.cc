// SPDX-License-Identifier: Apache-2.0
// Group "load": the entry, called as hosts of other versions, or with something missing, would call
// it.
#include <dlfcn.h>
#include <algorithm>

#include <cstring>
#include <thread>

#include "conformance/subject.h"

namespace pluq::conformance {
namespace {

std::string ids_of(const Answer& a, const Subject& s) {
  std::string out;
  for (const pluq_format& f : a.formats) out += FormatHandle(f, s.path).id() + " ";
  return out;
}

std::string twice(const Subject& s) {
  const Opened opened = open_subject(s);
  const Answer first = call_entry(opened), second = call_entry(opened);
  expect(first.error.empty() && second.error.empty(), "its entry failed: {}{}", first.error,
         second.error);
  expect(ids_of(first, s) == ids_of(second, s), "registers {}, and when called again {}",
         ids_of(first, s), ids_of(second, s));
  expect(
      first.info.max_minor == second.info.max_minor && first.info.manifest == second.info.manifest,
      "answers differently when it is called again");
  return "both calls answer the same";
}

std::string other_thread(const Subject& s) {
  std::string error = "the thread did not run";
  std::thread([&] {
    try {
      error = call_entry(open_subject(s)).error;
    } catch (const std::exception& e) {
      error = e.what();
    }
  }).join();
  expect(error.empty(), "loaded and entered on a thread that then ends: {}", error);
  const Ready again = ready(s);
  return fmt::format("{} formats", again.formats.size());
}

std::string wrong_versions(const Subject& s) {
  const Opened opened = open_subject(s);
  const uint32_t minor = std::max(PLUQ_ABI_MINOR, s.facts.manifest.max_minor);  // of both
  struct {
    uint32_t major, min, max;
  } const cases[] = {{PLUQ_ABI_MAJOR + 1, minor, minor},
                     {99, 0, 1000},
                     {PLUQ_ABI_MAJOR - 1, 0, 1000},
                     {PLUQ_ABI_MAJOR, minor + 1, minor},
                     {PLUQ_ABI_MAJOR, minor + 1, minor + 5}};
  for (const auto& c : cases) {
    step("the entry with ABI {}.{} to {}.{}", c.major, c.min, c.major, c.max);
    const Answer a = call_entry(opened, host_table(), c.major, c.min, c.max);
    expect(!a.error.empty(), "accepts a host that speaks ABI {}.{} to {}.{}", c.major, c.min,
           c.major, c.max);
    expect(a.code == PLUQ_STATUS_ABI_MISMATCH,
           "refuses ABI {}.{} to {}.{} with status {}, not ABI_MISMATCH: {}", c.major, c.min,
           c.major, c.max, a.code, a.error);
    expect(a.formats.empty(), "registers a format although the versions do not meet");
  }
  expect(call_entry(opened).error.empty(),
         "after a refusal it does not accept the right version any more");
  return "5 wrong ranges refused with both versions named";
}

std::string failing_register(const Subject& s) {
  const Opened opened = open_subject(s);
  Answer answer;
  answer.refuse_register = true;
  pluq_handshake h{};
  h.struct_size = sizeof h;
  h.abi_major = PLUQ_ABI_MAJOR;
  h.min_minor = h.max_minor = PLUQ_ABI_MINOR;
  h.registrar = reinterpret_cast<pluq_registrar*>(&answer);
  h.register_format = [](pluq_registrar*, const pluq_format*) {
    return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, "refused by the test", 19);
  };
  pluq_plugin_info info{};
  info.struct_size = sizeof info;
  step("the entry with a register_format that fails");
  pluq_status* status = opened.entry(&host_table(), &h, &info);
  expect(status != nullptr, "its entry succeeds although register_format failed");
  take_text(status);
  expect(call_entry(opened).error.empty(),
         "after a failed registration it cannot be entered again");
  return "the failure is handed on";
}

// A host without services, and one whose tables end right after the last field, at an inaccessible
// page.
std::string poor_host(const Subject& s) {
  const Opened opened = open_subject(s);
  const Guarded table(sizeof(pluq_host), 8);
  pluq_host bare = host_table();
  bare.get_extension = [](const pluq_host*, const char*) -> const void* { return nullptr; };
  std::memcpy(table.data(), &bare, sizeof bare);
  step("the entry of a host without extensions");
  const Answer a = call_entry(opened, *table.as<pluq_host>());
  if (!a.error.empty()) return "refuses a host without services: " + a.error;
  for (const pluq_format& f : a.formats) {
    step("create_config on a host without extensions");
    const boost::json::value quantization = boost::json::object{{"quant_method", "x"}, {"bits", 4}};
    pluq_config_request r{};
    r.struct_size = sizeof r;
    r.container = str_of("safetensors");
    r.quantization = json_cursor(&quantization);
    pluq_config config{};
    pluq_status* status = f.api->create_config(f.self, &r, &config);
    if (status == nullptr) {
      expect(config.api != nullptr, "create_config succeeds and gives no table");
      config.api->destroy(config.self);
    } else {
      take_text(status);
    }
  }
  return "no service is taken for granted";
}

// A host that has no memory for a status hands out one that is never freed: it comes back as it is.
std::string status_without_memory(const Subject& s) {
  const Opened opened = open_subject(s);
  static pluq_status* const the_one =
      host_table().status_new(&host_table(), PLUQ_STATUS_OUT_OF_MEMORY, "no memory", 9);
  static pluq_host host = host_table();
  host.status_new = [](const pluq_host*, int32_t, const char*, size_t) { return the_one; };
  host.status_free = [](const pluq_host*, pluq_status*) {};
  Answer answer;
  pluq_handshake h{};
  h.struct_size = sizeof h;
  h.registrar = reinterpret_cast<pluq_registrar*>(&answer);
  h.register_format = [](pluq_registrar* r, const pluq_format* f) -> pluq_status* {
    reinterpret_cast<Answer*>(r)->formats.push_back(*f);
    return nullptr;
  };
  for (const uint32_t major : {PLUQ_ABI_MAJOR + 1, PLUQ_ABI_MAJOR}) {
    h.abi_major = major;
    h.min_minor = h.max_minor = PLUQ_ABI_MINOR;
    pluq_plugin_info info{};
    info.struct_size = sizeof info;
    step("the entry for major {} of a host that has no memory for a status", major);
    pluq_status* status = opened.entry(&host, &h, &info);
    expect(status == (major == PLUQ_ABI_MAJOR ? nullptr : the_one),
           "its entry answers major {} with a status that the host has not made", major);
  }
  int errors = 0;
  for (const pluq_format& f : answer.formats) {
    for (const boost::json::value& q :
         {boost::json::value(1), boost::json::value{{"quant_method", "nobody's"}, {"bits", "x"}}}) {
      pluq_config_request r{};
      r.struct_size = sizeof r;
      r.container = str_of("safetensors");
      r.quantization = json_cursor(&q);
      pluq_config config{};
      step("create_config on a host that has no memory for a status");
      pluq_status* status = f.api->create_config(f.self, &r, &config);
      expect(status == nullptr || status == the_one,
             "create_config answers with a status that the host has not made");
      if (status == nullptr) config.api->destroy(config.self);
      errors += status == nullptr ? 0 : 1;
    }
  }
  return fmt::format("the host's own status is handed on, {} errors of create_config", errors);
}

// The caller's structs end at an inaccessible page, shorter than the plugin knows them: nothing
// behind is touched.
std::string short_structs(const Subject& s) {
  const Opened opened = open_subject(s);
  Answer answer;
  const size_t info_bytes = offsetof(pluq_plugin_info, manifest);
  const Guarded info(info_bytes, 8), handshake(sizeof(pluq_handshake), 8);
  info.as<pluq_plugin_info>()->struct_size = static_cast<uint32_t>(info_bytes);
  auto* h = handshake.as<pluq_handshake>();
  h->struct_size = sizeof *h;
  h->abi_major = PLUQ_ABI_MAJOR;
  h->min_minor = h->max_minor = PLUQ_ABI_MINOR;
  h->registrar = reinterpret_cast<pluq_registrar*>(&answer);
  h->register_format = [](pluq_registrar* r, const pluq_format* f) -> pluq_status* {
    reinterpret_cast<Answer*>(r)->formats.push_back(*f);
    return nullptr;
  };
  step("the entry with a pluq_plugin_info of {} bytes that ends at an inaccessible page",
       info_bytes);
  pluq_status* status = opened.entry(&host_table(), h, info.as<pluq_plugin_info>());
  if (status != nullptr) return "refuses a shorter pluq_plugin_info: " + take_text(status);
  expect(info.as<pluq_plugin_info>()->struct_size == info_bytes,
         "changes the caller's struct_size");
  const size_t bytes = offsetof(pluq_format_info, summary);
  for (const pluq_format& f : answer.formats) {
    const Guarded out(bytes, 8);
    out.as<pluq_format_info>()->struct_size = static_cast<uint32_t>(bytes);
    step("describe into a pluq_format_info of {} bytes", bytes);
    f.api->describe(f.self, out.as<pluq_format_info>());
    expect(out.as<pluq_format_info>()->struct_size == bytes && out.intact(),
           "describe writes beyond the caller's struct");
  }
  return "writes stay inside the caller's sizes";
}

// Every allocation of loading fails once: a status each time, never a crash.
std::string out_of_memory(const Subject& s) {
  const Opened opened = open_subject(s);
  watch_calls(opened);
  int failures = 0;
  for (long n = 1; n < 200; ++n) {
    fail_allocation(n);
    step("the entry while its allocation {} fails", n);
    const Answer a = call_entry(opened);
    if (fail_allocation(0) && !a.error.empty()) {
      ++failures;
      continue;
    }
    expect(a.error.empty(), "its entry failed without reason: {}", a.error);
    break;
  }
  expect(call_entry(opened).error.empty(),
         "after running out of memory it cannot be entered any more");
  return fmt::format("{} allocations failed in turn", failures);
}

}  // namespace

std::vector<Test> load_tests() {
  return {{"load", "twice", twice},
          {"load", "other_thread", other_thread},
          {"load", "wrong_versions", wrong_versions},
          {"load", "failing_register", failing_register},
          {"load", "status_without_memory", status_without_memory},
          {"load", "poor_host", poor_host},
          {"load", "short_structs", short_structs},
          {"load", "out_of_memory", out_of_memory}};
}

}  // namespace pluq::conformance
