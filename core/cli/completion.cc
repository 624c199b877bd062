// SPDX-License-Identifier: Apache-2.0
// pluq completion SHELL: a completion script made from the very flags the program has.
#include <cstdio>
#include <string>

#include "base/error.h"
#include "cli/common.h"

namespace pluq::cli {
namespace {

std::string verbs_of(const CLI::App& app) {
  std::string out;
  for (const CLI::App* verb : app.get_subcommands({})) {
    if (!verb->get_group().empty()) out += verb->get_name() + " ";
  }
  return out;
}

std::string flags_of(const CLI::App& verb) {
  std::string out;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) out += "--" + name + " ";
  }
  for (const CLI::App* group : verb.get_subcommands({})) {
    if (group->get_name().empty()) out += flags_of(*group);
  }
  return out;
}

// A case arm per verb: "  run) words='--n ...' ;;".
std::string arms(const CLI::App& app) {
  std::string out;
  for (const CLI::App* verb : app.get_subcommands({})) {
    if (verb->get_name().empty() || verb->get_group().empty()) continue;
    std::string words = flags_of(*verb);
    for (const CLI::App* child : verb->get_subcommands({})) {
      if (!child->get_name().empty()) words += child->get_name() + " ";
    }
    out += fmt::format("    {}) words='{}' ;;\n", verb->get_name(), words);
  }
  return out;
}

std::string bash_script(const CLI::App& app) {
  return fmt::format(
      R"(# bash completion for pluq; source it, or put it into /etc/bash_completion.d/
_pluq() {{
  local words='{}--help --version' current=${{COMP_WORDS[COMP_CWORD]}}
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${{COMP_WORDS[1]}}" in
{}    esac
  fi
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "$words" -- "$current"))
       else COMPREPLY=($(compgen -W "${{words//--*([a-z-])/}}" -- "$current") $(compgen -f -- "$current")); fi ;;
  esac
}}
complete -o filenames -F _pluq pluq
)",
      verbs_of(app), arms(app));
}

std::string zsh_script(const CLI::App& app) {
  return "#compdef pluq\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(app);
}

std::string fish_script(const CLI::App& app) {
  std::string out =
      "# fish completion for pluq; put it into ~/.config/fish/completions/pluq.fish\n";
  for (const CLI::App* verb : app.get_subcommands({})) {
    if (verb->get_name().empty() || verb->get_group().empty()) continue;
    out += fmt::format("complete -c pluq -n __fish_use_subcommand -f -a {} -d \"{}\"\n",
                       verb->get_name(), verb->get_description());
    std::string names = flags_of(*verb);
    size_t at = 0;
    while ((at = names.find("--", at)) != std::string::npos) {
      const size_t end = names.find(' ', at);
      out += fmt::format("complete -c pluq -n '__fish_seen_subcommand_from {}' -l {}\n",
                         verb->get_name(), names.substr(at + 2, end - at - 2));
      at = end;
    }
  }
  return out;
}

}  // namespace

Verb add_completion(CLI::App& app, CommonFlags&) {
  CLI::App* verb = app.add_subcommand("completion", "Print a shell completion script");
  verb->footer("Example: pluq completion bash > /etc/bash_completion.d/pluq");
  static std::string shell;
  verb->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return {verb, [&app] {
            const std::string text = shell == "bash"  ? bash_script(app)
                                     : shell == "zsh" ? zsh_script(app)
                                                      : fish_script(app);
            std::fputs(text.c_str(), stdout);
          }};
}

}  // namespace pluq::cli
