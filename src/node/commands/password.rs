//! Where a command gets a password from: the terminal without echo, standard input, or the environment.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Longest password that is read, in bytes; a longer line is not a password.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Reads the first line of standard input.
pub(super) fn from_stdin() -> Result<String> {
    line(std::io::stdin().lock())
}

/// Asks twice on the terminal. What is typed does not show.
pub(super) fn from_terminal(username: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "there is no terminal to ask for the password: give --password-stdin or AGENT_SUPERUSER_PASSWORD"
        );
    }
    let terminal =
        File::options().read(true).write(true).open("/dev/tty").context("cannot open the terminal")?;
    let first = ask(&terminal, &format!("Password for {username}: "))?;
    let second = ask(&terminal, "The same again: ")?;
    if first != second {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn ask(mut terminal: &File, prompt: &str) -> Result<String> {
    write!(terminal, "{prompt}")?;
    let hidden = Hidden::start(terminal)?;
    let answer = line(BufReader::new(terminal));
    drop(hidden);
    writeln!(terminal)?;
    answer
}

/// Reads one line without its end.
fn line(reader: impl BufRead) -> Result<String> {
    let mut text = String::new();
    reader.take(PASSWORD_BYTES_MAX).read_line(&mut text).context("cannot read the password")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("the password is empty");
    }
    Ok(text.to_owned())
}

/// A terminal whose echo is off, until this is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn start(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal).context("cannot ask the terminal for its settings")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent).context("cannot turn the terminal's echo off")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // The terminal may be gone, and then there is no echo to bring back.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_password_is_the_first_line_with_its_spaces() {
        assert_eq!(line(&b" two words \nmore"[..]).unwrap(), " two words ");
        assert_eq!(line(&b"no end"[..]).unwrap(), "no end");
        assert!(line(&b"\n"[..]).is_err());
        assert!(line(&b""[..]).is_err());
    }
}
