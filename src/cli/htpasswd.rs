//! `portcullis htpasswd`: Apache's command of this name, for bcrypt.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::gate::htpasswd::{
    BcryptHash, DEFAULT_COST, Formats, Htpasswd as PasswordFile, Lines, MAX_COST, MIN_COST, Reason,
    Set, UserName, file,
};

/// The most that is read of standard input for a password.
const MAX_INPUT: u64 = 4096;

const EXAMPLES: &str = "\
The options are those of Apache's `htpasswd`, but for --upgrade. Passwords are stored as bcrypt, \
the only format that the registry accepts unless auth.htpasswd.legacyformats says otherwise. \
Without -b and -i the password is asked for, twice. A lost password cannot be read again: set another. \
A running registry reads a changed file by itself.

Examples:
  portcullis htpasswd -c auth/htpasswd admin        create the file, with a user
  portcullis htpasswd auth/htpasswd alice           add or change a user
  portcullis htpasswd -D auth/htpasswd alice        delete a user
  portcullis htpasswd -v auth/htpasswd admin        verify a password
  portcullis htpasswd -Bbn admin secret >> auth/htpasswd
  portcullis htpasswd --upgrade auth/htpasswd       list users without bcrypt

Exit codes: 0 done (-v: the password is right; --upgrade: all are bcrypt); 1 not done, wrong \
password, no such user (--upgrade: there is another hash); 2 usage.";

/// Add, change, delete or verify a user of the password file.
#[derive(Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = "portcullis htpasswd [-cBD] [-C COST] [-b|-i] FILE USER [PASSWORD]\n       \
                      portcullis htpasswd -n [-B] [-C COST] [-b|-i] USER [PASSWORD]\n       \
                      portcullis htpasswd -v [-b|-i] FILE USER [PASSWORD]\n       \
                      portcullis htpasswd --upgrade FILE"
)]
pub(super) struct Htpasswd {
    /// Create the file, and overwrite an existing one
    #[arg(short = 'c', group = "mode")]
    create: bool,
    /// Print the line on standard output, touch no file
    #[arg(short = 'n', group = "mode")]
    print: bool,
    /// Delete the user
    #[arg(short = 'D', group = "mode")]
    delete: bool,
    /// Verify the password
    #[arg(short = 'v', group = "mode")]
    verify: bool,
    /// List the users whose password is not stored as bcrypt; each of them has to set a password
    /// again
    #[arg(long, group = "mode", conflicts_with = "input")]
    upgrade: bool,
    /// Take the password from the command line, where other users of this machine may see it
    #[arg(short = 'b', group = "input")]
    batch: bool,
    /// Read the password from standard input
    #[arg(short = 'i', group = "input")]
    stdin: bool,
    /// Use bcrypt (always so)
    #[arg(short = 'B')]
    _bcrypt: bool,
    /// The cost of bcrypt: each step doubles the time
    #[arg(
        short = 'C',
        value_name = "COST",
        default_value_t = DEFAULT_COST,
        value_parser = clap::value_parser!(u8).range(i64::from(MIN_COST)..=i64::from(MAX_COST)),
    )]
    cost: u8,
    #[command(flatten)]
    refused: Refused,
    /// The password file (not with -n), a user (not with --upgrade), and with -b the password
    #[arg(
        required = true,
        num_args = 1..=3,
        trailing_var_arg = true,
        value_names = ["FILE", "USER", "PASSWORD"],
    )]
    arguments: Vec<String>,
}

/// Apache's other formats, which are refused with a reason.
#[derive(Args)]
struct Refused {
    #[arg(short = 'm', hide = true)]
    md5: bool,
    #[arg(short = 'd', hide = true)]
    crypt: bool,
    #[arg(short = 's', hide = true)]
    sha1: bool,
    #[arg(short = 'p', hide = true)]
    plain: bool,
    #[arg(short = '2', hide = true)]
    sha256: bool,
    #[arg(short = '5', hide = true)]
    sha512: bool,
    #[arg(short = 'r', hide = true)]
    rounds: Option<String>,
}

/// Bytes, as in HTTP Basic: a file of passwords may have been made where text is Latin-1.
type Password = Zeroizing<Vec<u8>>;

/// The arguments after the options.
struct Target {
    /// The path from the root; `None` with `-n`.
    file: Option<PathBuf>,
    user: String,
    /// With `-b`.
    password: Option<Password>,
}

impl Htpasswd {
    /// Runs the command. Results go to standard output (`-n`) or standard error, as with Apache's.
    ///
    /// # Errors
    ///
    /// Code 2 for invalid arguments, 1 for everything else: a file that is missing or
    /// cannot be written, a name or password that cannot be used, a wrong password, no such user.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        self.refused.check()?;
        if self.upgrade {
            return match self.arguments.as_slice() {
                [file] => upgrade(&std::path::absolute(file)?),
                _ => Err(expected("FILE")),
            };
        }
        let Target { file, user, password } = self.target()?;
        match file {
            None => {
                let name = parse_name(&user)?;
                let hash = self.hash(password)?;
                // The blank line is Apache's. In a file it does no harm.
                writeln!(io::stdout().lock(), "{name}:{}\n", hash.as_str())?;
                Ok(())
            }
            Some(path) if self.delete => delete(&path, &user),
            Some(path) if self.verify => self.verify(&path, &user, password),
            Some(path) => {
                let path = &*path;
                if !self.create {
                    must_exist(path)?;
                }
                let name = parse_name(&user)?;
                let hash = self.hash(password)?;
                if self.create {
                    let mut lines = Lines::from_bytes(b"");
                    lines.set(&name, &hash);
                    written(path, file::store(path, &lines.to_bytes()))?;
                    return say(format_args!("Adding password for user {name}"));
                }
                match written(path, file::edit(path, |lines| lines.set(&name, &hash)))? {
                    Set::Added => say(format_args!("Adding password for user {name}")),
                    Set::Updated => say(format_args!("Updating password for user {name}")),
                }
            }
        }
    }

    fn target(&mut self) -> Result<Target, Failure> {
        let mut arguments = std::mem::take(&mut self.arguments).into_iter();
        let file = if self.print { None } else { arguments.next() };
        let expected = if self.print { "USER" } else { "FILE USER" };
        let user = arguments.next();
        let password = arguments.next().map(|text| Zeroizing::new(text.into_bytes()));
        let needs_password = self.batch && !self.delete;
        match (user, password, arguments.next()) {
            (Some(user), password, None) if password.is_some() == needs_password => {
                let file = file.map(std::path::absolute).transpose()?;
                Ok(Target { file, user, password })
            }
            _ => {
                let password = if needs_password { " PASSWORD" } else { "" };
                Err(self::expected(&format!("{expected}{password}")))
            }
        }
    }

    fn hash(&self, given: Option<Password>) -> Result<BcryptHash, Failure> {
        let password = match given {
            Some(password) => password,
            None if self.stdin => read_stdin()?,
            None => {
                let password = prompt("New password: ")?;
                if prompt("Re-type new password: ")? != password {
                    return Err(Failure::new("the two passwords differ: nothing was changed"));
                }
                password
            }
        };
        Ok(BcryptHash::new(&*password, self.cost)?)
    }

    fn verify(&self, path: &Path, user: &str, given: Option<Password>) -> Result<(), Failure> {
        let file = read(path, Formats::BcryptOnly)?;
        let Some(hash) = file.find(user) else {
            return Err(not_found(&file, path, user));
        };
        let password = match given {
            Some(password) => password,
            None if self.stdin => read_stdin()?,
            None => prompt("Enter password: ")?,
        };
        if hash.verify(&password) {
            return say(format_args!("Password for user {user} correct."));
        }
        Err(Failure::new(format!(
            "password verification failed for user {user}: to set a new password, run `portcullis htpasswd {} {user}`",
            path.display()
        )))
    }
}

impl Refused {
    fn check(&self) -> Result<(), Failure> {
        let given = [
            (self.md5, "-m", "MD5"),
            (self.crypt, "-d", "CRYPT"),
            (self.sha1, "-s", "SHA-1"),
            (self.plain, "-p", "plain text"),
            (self.sha256, "-2", "SHA-256 crypt"),
            (self.sha512, "-5", "SHA-512 crypt"),
            (self.rounds.is_some(), "-r", "SHA-2 crypt"),
        ];
        match given.iter().find(|(given, ..)| *given) {
            Some((_, flag, format)) => Err(Failure::usage(format!(
                "{flag} is for {format}, and the registry accepts passwords stored as bcrypt only: leave {flag} out"
            ))),
            None => Ok(()),
        }
    }
}

/// Lists on standard output the users whose password is not stored as bcrypt, or in an unknown
/// format.
fn upgrade(path: &Path) -> Result<(), Failure> {
    let file = read(path, Formats::WithLegacy)?;
    let mut lines: Vec<(usize, String)> =
        file.outdated().map(|outdated| (outdated.line, outdated.to_string())).collect();
    for (at, problem) in file.problems().iter().enumerate() {
        let has_later_line = problem.user.as_deref().is_some_and(|user| {
            file.find(user).is_some()
                || file.problems()[at + 1..].iter().any(|p| p.user == problem.user)
        });
        if matches!(problem.reason, Reason::Hash(_)) && !has_later_line {
            lines.push((problem.line, problem.to_string()));
        }
    }
    if lines.is_empty() {
        return say(format_args!("All passwords in {} are stored as bcrypt.", path.display()));
    }
    lines.sort_unstable();
    let mut stdout = io::stdout().lock();
    for (_, line) in &lines {
        writeln!(stdout, "{line}")?;
    }
    Err(Failure::new(format!(
        "{} not stored as bcrypt; a hash cannot be turned into another: let each user choose a password, \
         with `portcullis htpasswd {} USER`",
        match lines.len() {
            1 => "1 password is".to_owned(),
            count => format!("{count} passwords are"),
        },
        path.display()
    )))
}

fn expected(arguments: &str) -> Failure {
    Failure::usage(format!(
        "expected {arguments} after the options; see `portcullis htpasswd --help`"
    ))
}

fn read(path: &Path, formats: Formats) -> Result<PasswordFile, Failure> {
    let bytes =
        fs::read(path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
    let parsed = PasswordFile::parse(&bytes, formats);
    match parsed.problems().first() {
        // The file was refused as a whole.
        Some(problem) if matches!(problem.reason, Reason::Utf16(_)) => {
            Err(Failure::new(format!("cannot use {}: {}", path.display(), problem.reason)))
        }
        _ => Ok(parsed),
    }
}

fn delete(path: &Path, user: &str) -> Result<(), Failure> {
    must_exist(path)?;
    if written(path, file::edit(path, |lines| lines.remove(user)))? {
        return say(format_args!("Deleting password for user {user}"));
    }
    Err(Failure::new(format!("User {user} not found in {}: nothing was changed", path.display())))
}

fn not_found(file: &PasswordFile, path: &Path, user: &str) -> Failure {
    let path = path.display();
    let of_user = file.problems().iter().rfind(|problem| problem.user.as_deref() == Some(user));
    match of_user {
        Some(problem) => Failure::new(format!(
            "User {user} cannot log in, by line {} of {path}: {}",
            problem.line, problem.reason
        )),
        None => Failure::new(format!(
            "User {user} not found in {path}: to add the user, run `portcullis htpasswd {path} {user}`"
        )),
    }
}

fn parse_name(user: &str) -> Result<UserName, Failure> {
    Ok(user.parse()?)
}

fn must_exist(path: &Path) -> Result<(), Failure> {
    // Other errors come up, with their own texts, when the file is read.
    if fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Err(Failure::new(format!(
            "there is no file {}: check the path, or add -c to create it",
            path.display()
        )));
    }
    Ok(())
}

pub(super) fn written<T>(path: &Path, result: io::Result<T>) -> Result<T, Failure> {
    let path = path.display();
    result.map_err(|e| match e.kind() {
        io::ErrorKind::ResourceBusy => Failure::new(format!(
            "cannot replace {path}: it is a mount point ({e}); mount its directory instead of the single file"
        )),
        io::ErrorKind::NotFound => Failure::new(format!(
            "cannot write {path}: {e}; does its directory exist?"
        )),
        _ => Failure::new(format!("cannot change {path}: {e}")),
    })
}

/// All of standard input without the line breaks at its end, as Apache reads it.
fn read_stdin() -> Result<Password, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin()
        .lock()
        .take(MAX_INPUT)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::new(format!("cannot read the password from standard input: {e}")))?;
    while let Some(b'\r' | b'\n') = bytes.last() {
        bytes.pop();
    }
    Ok(bytes)
}

fn prompt(text: &str) -> Result<Password, Failure> {
    rpassword::prompt_password(text)
        .map(|text| Zeroizing::new(text.into_bytes()))
        .map_err(|e| {
            Failure::new(format!(
                "there is no terminal to ask for the password ({e}): use -i to read it from standard input"
            ))
        })
}

fn say(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    writeln!(io::stderr().lock(), "{text}")?;
    Ok(())
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The arguments may be a password.
        f.debug_struct("Htpasswd").finish_non_exhaustive()
    }
}
