//! `portcullis completions` and `portcullis man`: files made from the definition of the command line.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_complete::Shell;

use self::man_page::man_page;
use super::failure::Failure;

mod man_page;

const COMPLETIONS: &str = "\
Examples:
  portcullis completions bash > /etc/bash_completion.d/portcullis
  portcullis completions zsh > \"${fpath[1]}/_portcullis\"
  portcullis completions fish > ~/.config/fish/completions/portcullis.fish";

const MAN: &str = "\
Examples:
  portcullis man /usr/local/share/man/man1
  portcullis man . && man ./portcullis.1";

/// Print the completions of a shell.
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the completions of `command` on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when standard output takes no more.
    pub(super) fn run(self, mut command: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "portcullis", &mut script);
        io::stdout().lock().write_all(&script)?;
        Ok(())
    }
}

/// Write the man pages, one for each command.
#[derive(Args, Debug)]
#[command(after_help = MAN)]
pub(super) struct Man {
    /// The directory of the pages, which is created where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    /// Writes the pages of `command`, and prints their paths on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when a page cannot be written.
    pub(super) fn run(self, command: Command) -> Result<(), Failure> {
        let directory = std::path::absolute(&self.directory)?;
        let written = |path: &Path, error: io::Error| {
            Failure::new(format!("cannot write {}: {error}", path.display()))
        };
        fs::create_dir_all(&directory).map_err(|error| written(&directory, error))?;
        // `help` is created when the command line is parsed, and its page would say nothing.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let mut pages = vec![command];
        while let Some(page) = pages.pop() {
            pages.extend(page.get_subcommands().filter(|page| page.get_name() != "help").cloned());
            let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
            let path = directory.join(format!("{name}.1"));
            fs::write(&path, man_page(page)?).map_err(|error| written(&path, error))?;
            writeln!(io::stdout().lock(), "{}", path.display())?;
        }
        Ok(())
    }
}
