// SPDX-License-Identifier: Apache-2.0
// Chat templates render what jinja2 renders: tests/data/chat/golden.json, made by make.py there.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/chat/chat_template.h"

namespace pluq {
namespace {

namespace json = boost::json;

const std::string kFolder = std::string(PLUQ_SOURCE_DIR) + "/tests/data/chat/";

class ChatGolden : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    golden_ = parse_json_file(kFolder + "golden.json").as_object();
  }
  // Renders and compares with {"text": ...} or {"error": ...}.
  void check(const std::string& name, const std::string& source, const json::object& variables,
             const json::object& want) const {
    std::string got;
    bool failed = false;
    try {
      got = ChatTemplate::parse(source, name)->render(variables, golden_.at("now").as_int64());
    } catch (const Error& e) {
      got = e.what();
      failed = true;
    }
    const json::value* text = want.if_contains("text");
    EXPECT_EQ(failed, text == nullptr) << name << ": " << got;
    if (text != nullptr) EXPECT_EQ(got, std::string_view(text->as_string())) << name;
  }
  json::object golden_;
};

TEST_F(ChatGolden, TemplatesOfTheFamilies) {
  size_t count = 0;
  for (const auto& [file, renderings] : golden_.at("templates").as_object()) {
    const std::string source = read_file(kFolder + "templates/" + std::string(file), 1 << 20);
    for (const auto& [name, want] : renderings.as_object()) {
      json::object variables{
          {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_generation_prompt", true}};
      for (const auto& [key, value] : golden_.at("talks").at(name).as_object())
        variables[key] = value;
      check(std::string(file) + " " + std::string(name), source, variables, want.as_object());
      ++count;
    }
  }
  EXPECT_GE(count, 70u);
}

TEST_F(ChatGolden, ConstructsFiltersTestsAndWhiteSpace) {
  size_t count = 0;
  for (const json::value& line : golden_.at("lines").as_array()) {
    const std::string source(line.at("source").as_string());
    check(source, source, golden_.at("data").as_object(), line.as_object());
    ++count;
  }
  EXPECT_GE(count, 50u);
}

}  // namespace
}  // namespace pluq
