//! The reference of the command lines, from their clap definitions.

use crate::markdown::{cell, code, header, paragraphs, sentence, table};
use clap::{Arg, Args, Command, CommandFactory};
use kubectl_oaat::command_line::Cli;
use oaat_operator::run::Settings;

/// Returns the page.
pub(crate) fn page() -> String {
    let mut page = header("Command-line reference");
    page.push_str(&paragraphs(
        "All commands and options of `kubectl-oaat` and `oaat-operator`. [kubectl oaat](kubectl.md) \
         explains the commands that work on a cluster, [policies](policies.md#testing) those for \
         authors of policies, and the [reference](reference.md#command-line-flags) the flags of \
         the operator.",
    ));
    let mut operator = Settings::augment_args(Command::new("oaat-operator run")).about(
        "Run the operator against the current kubeconfig context or, in a pod, its own cluster.",
    );
    operator.build();
    command(&operator, "oaat-operator run", &mut page);
    let mut plugin = Cli::command();
    plugin.build();
    page.push_str(&paragraphs(
        "Each `kubectl-oaat` command accepts `--help`. kubectl runs the program as `kubectl oaat`.",
    ));
    subcommands(&plugin, "kubectl-oaat", &mut page);
    page.trim_end().to_owned() + "\n"
}

fn subcommands(parent: &Command, path: &str, page: &mut String) {
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for child in parent.get_subcommands().filter(shown) {
        let path = format!("{path} {}", child.get_name());
        if child.has_subcommands() {
            subcommands(child, &path, page);
        } else {
            command(child, &path, page);
        }
    }
}

fn command(command: &Command, path: &str, page: &mut String) {
    page.push_str(&format!("## {path}\n\n"));
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    page.push_str(&paragraphs(&sentence(&about)));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    page.push_str(&format!("```text\n{usage}\n```\n\n"));
    let shown =
        |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let rows: Vec<_> = command.get_arguments().filter(shown).map(row).collect();
    if rows.is_empty() {
        return;
    }
    if command.get_arguments().any(|arg| arg.get_env().is_some()) {
        page.push_str(&table(
            ["option", "variable", "default", "description"],
            &rows,
        ));
    } else {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|[name, _, default, help]| [name, default, help])
            .collect();
        page.push_str(&table(
            ["argument or option", "default", "description"],
            &rows,
        ));
    }
}

fn row(arg: &Arg) -> [String; 4] {
    let values: Vec<_> = arg
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| format!("<{name}>"))
        .collect();
    let takes_value = arg.get_action().takes_values();
    let value = if takes_value {
        values.join(" ")
    } else {
        String::new()
    };
    let names = [
        arg.get_short().map(|short| format!("-{short}")),
        arg.get_long().map(|long| format!("--{long}")),
    ];
    let names: Vec<_> = names.into_iter().flatten().collect();
    let name = format!("{} {value}", names.join(", "));
    let env = arg.get_env().map(|env| code(&env.to_string_lossy()));
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| code(&value.to_string_lossy()))
        .collect();
    let help = arg.get_long_help().or(arg.get_help());
    let mut help = sentence(&cell(&help.map(ToString::to_string).unwrap_or_default()));
    let possible: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| code(value.get_name()))
        .collect();
    if takes_value && !possible.is_empty() {
        help.push_str(&format!(" One of {}.", possible.join(", ")));
    }
    [
        code(name.trim()),
        env.unwrap_or_default(),
        if takes_value {
            defaults.join(" ")
        } else {
            String::new()
        },
        help,
    ]
}
