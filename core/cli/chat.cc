// SPDX-License-Identifier: Apache-2.0
#include "cli/chat.h"

#include <unistd.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/hf.h"
#include "cli/interrupt.h"
#include "tokenizer/chat/chat_template.h"

namespace pluq::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kMaxLine = size_t{16} << 20;

constexpr const char* kHelp =
    "Type a message and press Enter; a line that ends with \\ goes on in the next.\n"
    "  /clear         forget the conversation (the system message stays)\n"
    "  /system TEXT   set the system message and forget the conversation; without TEXT: none\n"
    "  /help          this text\n"
    "  /exit          leave (also Ctrl-D)\n"
    "Ctrl-C stops an answer.\n";

// What a model says about chatting: the template and the special tokens that templates name.
struct ChatModel {
  std::shared_ptr<const ChatTemplate> chat_template;
  std::string bos, eos;
};

// A token of tokenizer_config.json: text, or an object with the text as `content`.
std::string token_text(const json::value& config, const char* key) {
  const json::value* v = config.is_object() ? config.get_object().if_contains(key) : nullptr;
  if (v != nullptr && v->is_object()) v = v->get_object().if_contains("content");
  return v != nullptr && v->is_string() ? std::string(v->get_string()) : std::string();
}

std::shared_ptr<const ChatTemplate> parse_file(const std::string& path) {
  return ChatTemplate::parse(read_file(path, size_t{1} << 20), path);
}

ChatModel from_directory(const std::string& model) {
  ChatModel out;
  const json::value config = read_optional_json(model, "tokenizer_config.json");
  out.bos = token_text(config, "bos_token");
  out.eos = token_text(config, "eos_token");
  const std::string file = model + "/chat_template.jinja";
  std::error_code ec;
  if (fs::exists(file, ec)) {
    out.chat_template = parse_file(file);
  } else if (config.is_object()) {
    const json::value* v = config.get_object().if_contains("chat_template");
    const std::string where = model + "/tokenizer_config.json: chat_template";
    const std::string text = v != nullptr ? pick_chat_template(*v, where) : "";
    if (!text.empty()) out.chat_template = ChatTemplate::parse(text, where);
  }
  return out;
}

ChatModel from_gguf(const std::string& model, const Tokenizer& tokenizer) {
  ChatModel out;
  const auto file = GgufFile::open(model);
  const auto token = [&](const char* key) {
    const std::optional<int64_t> id = file->integer(key);
    const bool known = id && *id >= 0 && *id < tokenizer.vocab_size();
    return known ? tokenizer.id_to_token(static_cast<int32_t>(*id)).value_or("") : std::string();
  };
  out.bos = token("tokenizer.ggml.bos_token_id");
  out.eos = token("tokenizer.ggml.eos_token_id");
  const std::string text = file->string("tokenizer.chat_template").value_or("");
  if (!text.empty())
    out.chat_template = ChatTemplate::parse(text, model + ": tokenizer.chat_template");
  return out;
}

ChatModel find_template(const OpenModel& open, const std::string& given) {
  const std::string& model = open.config.model;
  std::error_code ec;
  const bool directory = fs::is_directory(model, ec);
  ChatModel out;
  if (given.empty()) {
    out = directory ? from_directory(model) : from_gguf(model, *open.tokenizer);
  } else {
    const json::value config =
        directory ? read_optional_json(model, "tokenizer_config.json") : json::value();
    out = {parse_file(given), token_text(config, "bos_token"), token_text(config, "eos_token")};
  }
  if (out.chat_template == nullptr) {
    fail_input(
        "{}: this model has no chat template ({}), so it is probably not made for conversations; "
        "use run -p TEXT, or "
        "give a template with --chat-template FILE",
        model,
        directory ? "neither chat_template.jinja nor chat_template in tokenizer_config.json"
                  : "no tokenizer.chat_template");
  }
  return out;
}

// One line without its newline; nothing at the end of the input.
std::optional<std::string> read_line() {
  std::string line;
  for (;;) {
    const int c = std::getc(stdin);
    if (c == EOF) {
      stop_if_interrupted();
      if (std::ferror(stdin)) fail(ErrorKind::kFailed, "reading the standard input failed");
      return line.empty() ? std::nullopt : std::optional(line);
    }
    if (c == '\n') return line;
    line += static_cast<char>(c);
    if (line.size() > kMaxLine)
      fail_input("the standard input has a line of more than {} MiB", kMaxLine >> 20);
  }
}

class Conversation {
 public:
  Conversation(const OpenModel& open, const GenerateRequest& request, const ChatFlags& flags)
      : tokenizer_(*open.tokenizer),
        session_(open.session()),
        request_(request),
        model_(find_template(open, flags.template_file)),
        system_(flags.system),
        quiet_(flags.quiet),
        terminal_(::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) {
    // Some checkpoints name the end of a turn only in the tokenizer's configuration.
    const std::optional<int32_t> eos =
        model_.eos.empty() ? std::nullopt : tokenizer_.token_to_id(model_.eos);
    if (eos) request_.eos_ids.push_back(*eos);
    request_.cancel = &interrupted();
    request_.on_text = stream_text;
  }

  void run(const std::string& first) {
    if (terminal_ && !quiet_) std::fputs("Type a message, or /help.\n", stderr);
    if (!first.empty()) say(first);
    while (const std::optional<std::string> message = read_message()) {
      if (message->find_first_not_of(" \t\r") == std::string::npos) continue;
      if ((*message)[0] != '/') {
        say(*message);
      } else if (!command(*message)) {
        return;
      }
    }
    if (terminal_) std::fputc('\n', stdout);
  }

 private:
  std::optional<std::string> read_message() const {
    std::string message;
    for (const char* prompt = "> ";; prompt = "| ") {
      if (terminal_) {
        std::fputs(prompt, stdout);
        std::fflush(stdout);
      }
      std::optional<std::string> line = read_line();
      if (!line) return message.empty() ? std::nullopt : std::optional(message);
      if (!line->empty() && line->back() == '\r') line->pop_back();
      const bool more = !line->empty() && line->back() == '\\';
      if (more) line->back() = '\n';
      message += *line;
      if (!more) return message;
    }
  }

  // false: leave.
  bool command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space),
                      rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") {
      std::fputs(kHelp, stderr);
    } else if (name == "/clear") {
      messages_.clear();
    } else if (name == "/system") {
      system_ = rest;
      messages_.clear();
    } else {
      fmt::print(stderr, "there is no command '{}'; there are /help, /clear, /system, /exit\n",
                 printable(name, 40));
    }
    return true;
  }

  std::vector<int32_t> prompt_ids() const {
    json::array all;
    if (!system_.empty()) all.push_back(json::object{{"role", "system"}, {"content", system_}});
    all.insert(all.end(), messages_.begin(), messages_.end());
    const json::object variables{{"messages", std::move(all)},
                                 {"add_generation_prompt", true},
                                 {"bos_token", model_.bos},
                                 {"eos_token", model_.eos}};
    // The template writes all special tokens itself.
    return tokenizer_.encode(model_.chat_template->render(variables, std::time(nullptr)),
                             /*add_special=*/false);
  }

  // Answers one message. Only what the cache does not hold yet is run through the model.
  void say(const std::string& text) {
    messages_.push_back(json::object{{"role", "user"}, {"content", text}});
    try {
      answer();
    } catch (const Error& e) {
      messages_.pop_back();
      const auto held = static_cast<size_t>(session_.length());
      if (cached_.size() > held) cached_.resize(held);
      if (e.kind() == ErrorKind::kInterrupted && terminal_) {
        clear_interrupt();
        std::fputc('\n', stdout);
        return;
      }
      if (!terminal_) throw;
      fmt::print(stderr, "{}\n", e.what());
    }
  }

  void answer() {
    GenerateRequest request = request_;
    request.prompt_ids = prompt_ids();
    size_t same = 0;
    while (same < cached_.size() && same < request.prompt_ids.size() &&
           cached_[same] == request.prompt_ids[same])
      ++same;
    if (same == request.prompt_ids.size() && same > 0)
      --same;  // logits come from running the last id
    session_.rewind(static_cast<int64_t>(same));
    cached_ = request.prompt_ids;
    request.cached_tokens = static_cast<int64_t>(same);
    const GenerateResult result = generate(session_, tokenizer_, request);
    std::fputc('\n', stdout);
    std::fflush(stdout);
    cached_.insert(cached_.end(), result.output_ids.begin(), result.output_ids.end());
    cached_.resize(static_cast<size_t>(session_.length()));
    messages_.push_back(json::object{{"role", "assistant"}, {"content", result.text}});
    if (!quiet_) {
      fmt::print(stderr, "[{} tokens read at {:.1f}/s, {} written at {:.1f}/s; context {} of {}]\n",
                 result.prefill.tokens, result.prefill.tokens_per_second(),
                 result.output_ids.size(), result.decode.tokens_per_second(), session_.length(),
                 session_.context());
    }
    if (result.stop_reason == "cancelled") {
      if (!terminal_) stop_if_interrupted();
      clear_interrupt();
    } else if (result.stop_reason == "length" && session_.length() >= session_.context()) {
      fmt::print(
          stderr,
          "the context of {} tokens is full; /clear begins anew, --context N makes it larger\n",
          session_.context());
    }
  }

  const Tokenizer& tokenizer_;
  Session session_;
  GenerateRequest request_;
  ChatModel model_;
  std::string system_;
  json::array messages_;
  std::vector<int32_t> cached_;  // the ids that the session holds
  bool quiet_, terminal_;
};

}  // namespace

void chat(const OpenModel& open, const GenerateRequest& request, const ChatFlags& flags) {
  Conversation(open, request, flags).run(flags.first);
}

}  // namespace pluq::cli
