//! `meta completions`, `meta man`: what a shell and a reader of manuals want to know of the commands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use clap_complete::Shell;
use meta_core::{Error, files::write_atomically, toolkit::Toolkit};

use crate::{
    command::{Execute, PROGRAM},
    failure::{CommandError, Result},
    output::{print, target::check_target},
};

/// Print the completions of a shell: `meta completions bash > ~/.local/share/bash-completion/completions/meta`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Write a manual page for each command: `meta man ~/.local/share/man/man1`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write into; what this command wrote is replaced.
    folder: PathBuf,
}

/// In every manual page: how the program that writes them begins.
const MARK: &str = ".TH meta";

fn program() -> Result<clap::Command> {
    let program = PROGRAM.get().cloned();
    program.ok_or_else(|| CommandError::Usage("the commands are not known here".to_owned()))
}

impl Execute for CompletionsArgs {
    /// Prints them.
    ///
    /// # Errors
    /// When stdout cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program()?, "meta", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

impl Execute for ManArgs {
    /// Writes them.
    ///
    /// # Errors
    /// When the folder cannot be written, or holds another page of that name.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let mut program = program()?;
        program.build();
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, "create folder", error))?;
        let mut written = 1;
        page(folder, "meta", program.clone())?;
        for command in program
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = format!("meta-{}", command.get_name());
            page(folder, &name, command.clone())?;
            written += 1;
        }
        print(&format!("{written} pages in {}\n", folder.display()))
    }
}

/// Writes the page of a command.
fn page(folder: &Path, name: &str, command: clap::Command) -> Result<()> {
    let path = folder.join(format!("{name}.1"));
    check_target(&path, MARK)?;
    // No date: the same program writes the same page.
    let page = clap_mangen::Man::new(command).title(name).date("");
    let mut bytes = Vec::new();
    page.render(&mut bytes)
        .map_err(|error| Error::io(&path, "write", error))?;
    Ok(write_atomically(&path, &bytes)?)
}
