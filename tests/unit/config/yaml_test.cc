// SPDX-License-Identifier: Apache-2.0
#include "config/yaml.h"

#include <gtest/gtest.h>

#include <chrono>

#include "config/matcher.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;

TEST(Yaml, KeepsPlacesAndTypes) {
  const YamlNode n = parse_yaml("a: 1\nb:\n  - x\n  - \"2\"\nc: {d: true}\ne:\n", "f.yaml");
  EXPECT_EQ(n.find("a")->where, "f.yaml:1:4");
  EXPECT_EQ(n.find("a")->integer("a", 0, 5), 1);
  EXPECT_EQ(n.find("b")->items("b")[1].text("b"), "2");
  EXPECT_TRUE(n.find("c")->find("d")->boolean("d"));
  EXPECT_EQ(n.find("e")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(n.find("b")->items("b")[1].to_json().as_string(), "2");  // quoted: a text
  expect_error(ErrorKind::kUsage, {"f.yaml:1:4", "'a' is '1', expected a whole number from 2 to 3"},
               [&] { n.find("a")->integer("a", 2, 3); });
  expect_error(ErrorKind::kUsage, {"f.yaml:4:5", "expected a number"},
               [&] { n.find("b")->items("b")[1].real("b", 0, 9); });
}

TEST(Yaml, RefusesWithLineAndColumn) {
  const auto refuse = [](const std::string& text, const char* says) {
    expect_error(ErrorKind::kUsage, {"f.yaml", says}, [&] { parse_yaml(text, "f.yaml"); });
  };
  refuse("a: &x 1\nb: *x\n", "anchors are not accepted");
  refuse("&a [*a]", "anchors are not accepted");
  refuse("a: !!str 1\n", "tags are not accepted");
  refuse("a: 1\n---\nb: 2\n", "more than one YAML document");
  refuse("a: 1\na: 2\n", "f.yaml:2:1: key 'a' is there twice");
  refuse("[a]: 1\n", "a key must be a plain text");
  refuse("a: [1\n", "f.yaml:");
  refuse(std::string(70'000, ' '), "at most 65536");
  refuse(std::string(40, '[') + std::string(40, ']'), "nested deeper than 16");
  std::string many;
  for (int i = 0; i < 1001; ++i) many += "k" + std::to_string(i) + ": 1\n";
  refuse(many, "more than 1000 keys");
}

TEST(Matcher, PrefixRegexIsPythonsReMatch) {
  EXPECT_TRUE(PrefixRegex("a.c").match("abcd"));
  EXPECT_FALSE(PrefixRegex("b").match("abc"));
  EXPECT_TRUE(PrefixRegex(R"(.*\.(?:1[0-5])\..*)").match("model.layers.12.mlp"));
  expect_error(ErrorKind::kInput, {"pattern '(a'", "position"}, [] { PrefixRegex("(a"); });
  expect_error(ErrorKind::kInput, {"too many steps"},
               [] { PrefixRegex("(a+)+$").match(std::string(60, 'a') + "b"); });
}

TEST(Matcher, LayerPatterns) {
  EXPECT_TRUE(LayerPattern("*").match("anything"));
  EXPECT_TRUE(LayerPattern("*.v_proj").match("model.layers.0.self_attn.v_proj"));
  EXPECT_FALSE(LayerPattern("*.v_proj").match("model.layers.0.self_attn.v_proj2"));
  EXPECT_TRUE(LayerPattern("a*b*c").match("a--b--b-c"));
  EXPECT_TRUE(LayerPattern("lm_head").match("lm_head"));
  EXPECT_FALSE(LayerPattern("lm_head").match("lm_head.x"));
  EXPECT_TRUE(LayerPattern("re:.*q_proj").match("x.q_proj.y"));
  const std::string stars(200, '*'), text(5000, 'a');
  EXPECT_FALSE(LayerPattern(stars + "b").match(text));  // linear, not exponential
}

}  // namespace
}  // namespace pluq
