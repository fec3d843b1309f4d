//! A terminal: a command line in, exit code and words out.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a command said: its exit code, and both outputs.
#[derive(Debug)]
pub struct Heard {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Heard {
    /// Runs it to its end.
    pub fn from(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its exit code and each of these parts, on either output.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.out.contains(part) || self.err.contains(part), "{part:?} is missing in\n{}{}", self.out, self.err);
        }
        self
    }

    /// A failure as people should read one: what (begins like this), why if given, what to do.
    #[track_caller]
    pub fn fails(&self, code: i32, what: &str, fix: &str) -> &Self {
        self.says(code, &[]);
        let told = self.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error in {self:?}"));
        assert!(told.contains(what), "{what:?} is missing in {told:?}");
        let todo = self.err.split("what to do: ").nth(1).unwrap_or_else(|| panic!("not what to do in\n{}", self.err));
        assert!(todo.contains(fix), "{fix:?} is missing in {todo:?}");
        self
    }
}

/// The program, with a home and no kubeconfig of this machine's user.
pub fn bramble<S: AsRef<OsStr>>(home: &std::path::Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bramble"));
    command.args(arguments).env("HOME", home).env("KUBECONFIG", home.join("kubeconfig")).env_remove("DOCKER_HOST");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BRAMBLE_")) {
        command.env_remove(name);
    }
    command
}

/// The words of a line, parted by blanks.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace()
}
