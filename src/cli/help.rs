//! The page of all help texts, which `docs/cli.md` holds. A test compares the two.

use std::fmt::Write as _;

/// Width of the page's texts.
const COLUMNS: usize = 100;

/// Help of every subcommand that is shown, as Markdown.
pub(super) fn page(command: clap::Command) -> String {
    // Values from the environment of the process must not appear on the page.
    let mut command = command.term_width(COLUMNS);
    command = command.mut_subcommands(|one| one.mut_args(|arg| arg.hide_env_values(true)));
    command.build();
    let mut page = String::new();
    for one in command.get_subcommands_mut() {
        if one.is_hide_set() || one.get_name() == "help" {
            continue;
        }
        let help = one.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n### {}\n\n```\n{}\n```\n",
            one.get_name(),
            lines.join("\n").trim_end()
        );
    }
    page
}
