//! `bramble doctor`: looks for what is wrong on this machine, and mends it where it is asked to. `bramble doctor network`: what of
//! Bramble is in its network, and what of that nobody needs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::agent::doctor::disk::{Done, Life, Tree};
use crate::agent::doctor::exec::Real;
use crate::agent::doctor::run::{Visited, mend};
use crate::agent::doctor::{CHECKS, Finding, Remedy, State, look};
use crate::agent::overlay::listing::Thing;
use crate::agent::overlay::listing::run::{RemoveError, list, sweep};
use crate::error::{Chain, Report};
use crate::terminal::{printable, quoted};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Mends what is wrong and can be mended, or only the checks that are named; says how each change is undone
    #[arg(long, value_name = "ID", num_args = 0..)]
    fix: Option<Vec<String>>,
    /// Lists the checks
    #[arg(long, conflicts_with_all = ["fix", "root"])]
    list: bool,
    /// Looks at a machine that does not run, such as a card in a reader: where its root file system is mounted
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists every link, route, address, table and rule of Bramble in this machine's network, and whether an agent that runs needs it
    Network {
        /// Removes what belongs to no agent that runs here
        #[arg(long)]
        remove: bool,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: super::Output,
    },
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    match args.command {
        Some(Command::Network { remove, output }) => network(remove, output),
        None if args.list => list_checks(args.output),
        None => visit(args.root.as_deref(), args.fix.as_deref(), args.output),
    }
}

/// Looks at the machine below `root`; mends it, when `fix` is given.
fn visit(root: Option<&Path>, fix: Option<&[String]>, output: super::Output) -> Result<(), Report> {
    let root = root.unwrap_or(Path::new("/"));
    let place = std::fs::canonicalize(root).ok().filter(|place| place.is_dir());
    let place = place
        .ok_or_else(|| Report::usage(format!("{} is no folder", root.display())).fix("--root: where the card is mounted"))?;
    if let Some(unknown) = fix.iter().copied().flatten().find(|name| CHECKS.iter().all(|check| check.id != name.as_str())) {
        return Err(Report::usage(format!("there is no check {unknown:?}")).fix("`bramble doctor --list` names them"));
    }
    if fix.is_some() && place == Path::new("/") && !rustix::process::geteuid().is_root() {
        return Err(Report::failed("only root may mend this machine").fix("sudo bramble doctor --fix"));
    }
    let programs = Real::new().map_err(|error| Report::failed("cannot start").because(error))?;
    let life = if place == Path::new("/") { Life::Runs } else { Life::Still };
    let tree = Tree::new(&place, life, Box::new(programs));
    let visited = match fix {
        Some(named) => mend(&tree, named),
        None => {
            let unmended = |finding| Visited { finding, done: Vec::new(), failed: None, undo: Vec::new() };
            look(&tree).into_iter().map(unmended).collect()
        }
    };
    match output {
        super::Output::Json => print_json(&Examined::of(&visited))?,
        super::Output::Text => super::print(&report(&visited, root, fix.is_some())),
    }
    let wrong = |visited: &Visited| visited.finding.state.is_wrong() || visited.failed.is_some();
    if visited.iter().any(wrong) { Err(Report::told()) } else { Ok(()) }
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Examined<'a> {
    wrong: usize,
    findings: Vec<Told<'a>>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    id: &'a str,
    state: State,
    what: &'a str,
    why: &'a str,
    fix: &'a str,
    /// `doctor`: `--fix`; `doctor_when_named`: `--fix ID`; `person`; nothing: there is nothing to mend.
    fixed_by: Option<&'static str>,
    then: &'a str,
    undo: Vec<&'a str>,
    done: Vec<String>,
    failed: Option<String>,
}

impl<'a> Examined<'a> {
    fn of(visited: &'a [Visited]) -> Self {
        let told = |Visited { finding, done, failed, undo }: &'a Visited| Told {
            id: finding.id,
            state: finding.state,
            what: &finding.what,
            why: &finding.why,
            fix: &finding.fix,
            fixed_by: finding.state.is_wrong().then_some(match finding.remedy {
                Remedy::Doctor(_) => "doctor",
                Remedy::WhenNamed(_) => "doctor_when_named",
                Remedy::Person => "person",
            }),
            then: &finding.then,
            undo: undo_of(finding, failed.is_some(), undo),
            done: done.iter().map(done_words).collect(),
            failed: failed.as_ref().map(|error| Chain(error).to_string()),
        };
        let findings: Vec<Told<'_>> = visited.iter().map(told).collect();
        Self { wrong: findings.iter().filter(|told| told.state.is_wrong()).count(), findings }
    }
}

fn print_json<T: Serialize>(value: &T) -> Result<(), Report> {
    let json = serde_json::to_string(value).map_err(|error| Report::failed("cannot print as JSON").because(error))?;
    super::print(&format!("{json}\n"));
    Ok(())
}

fn list_checks(output: super::Output) -> Result<(), Report> {
    match output {
        super::Output::Json => {
            let checks: Vec<_> = CHECKS.iter().map(|check| serde_json::json!({"id": check.id, "title": check.title})).collect();
            print_json(&checks)?;
        }
        super::Output::Text => {
            let line = |check: &crate::agent::doctor::Check| format!("{:<16}  {}\n", check.id, check.title);
            super::print(&CHECKS.iter().map(line).collect::<String>());
        }
    }
    Ok(())
}

fn done_words(done: &Done) -> String {
    match done {
        Done::Nothing => String::new(),
        Done::Wrote { path, backup: Some(backup) } => format!("wrote {path}; as it was: {backup}"),
        Done::Wrote { path, backup: None } => format!("wrote {path}, which is new"),
        Done::Ran(command) => format!("ran {command}"),
    }
}

/// Commands that undo what was done now, else what a fix would do or did earlier. What failed before anything was done needs none.
fn undo_of<'a>(finding: &'a Finding, failed: bool, undo: &'a [String]) -> Vec<&'a str> {
    match undo {
        [] if failed => Vec::new(),
        [] => finding.undo.lines().collect(),
        undo => undo.iter().map(String::as_str).collect(),
    }
}

/// The visit as a person reads it.
fn report(visited: &[Visited], root: &Path, mended: bool) -> String {
    let mut text = String::new();
    for Visited { finding, done, failed, undo } in visited {
        let Finding { id, state, what, why, fix, then, .. } = finding;
        text.push_str(&format!("{:<7}  {id:<15}  {}\n", state.word(), printable(what)));
        let mut line = |name: &str, words: &str| {
            for (number, words) in words.lines().enumerate() {
                let name = if number == 0 { name } else { "" };
                text.push_str(&format!("{:9}{name:<6}  {}\n", "", printable(words)));
            }
        };
        line("done", &done.iter().map(done_words).collect::<Vec<_>>().join("\n"));
        line("failed", &failed.as_ref().map(|error| Chain(error).to_string()).unwrap_or_default());
        line("why", why);
        line("fix", fix);
        line("then", then);
        line("undo", &undo_of(finding, failed.is_some(), undo).join("\n"));
    }
    let wrong: Vec<&Finding> =
        visited.iter().map(|visited| &visited.finding).filter(|finding| finding.state.is_wrong()).collect();
    let mendable = wrong.iter().filter(|finding| matches!(finding.remedy, Remedy::Doctor(_))).count();
    text.push('\n');
    match (wrong.len(), mendable) {
        (0, _) => text.push_str("nothing is wrong\n"),
        (wrong, 0) => text.push_str(&format!("wrong: {wrong}; that is for you to mend\n")),
        (wrong, mendable) if mended => {
            text.push_str(&format!("wrong: {wrong}; of these {mendable} could be mended and were not\n"));
        }
        (wrong, mendable) => {
            let place =
                if root == Path::new("/") { String::new() } else { format!(" --root {}", quoted(&root.to_string_lossy())) };
            text.push_str(&format!("wrong: {wrong}; of these {mendable} are mended by: sudo bramble doctor{place} --fix\n"));
        }
    }
    text
}

fn network(remove: bool, output: super::Output) -> Result<(), Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::failed("cannot start").because(error))?;
    let things = if remove {
        runtime.block_on(sweep()).map_err(|error| {
            let report = Report::failed("not all could be removed");
            match error {
                RemoveError::Netlink(error) => report.because(error).fix("run it as root"),
                error => report.because(error).fix("run it as root; `bramble doctor network` lists what is left"),
            }
        })?
    } else {
        runtime.block_on(list()).map_err(|error| Report::failed("cannot look at this machine's network").because(error))?
    };
    match output {
        super::Output::Json => print_json(&things)?,
        super::Output::Text => super::print(&told(&things, remove)),
    }
    Ok(())
}

fn told(things: &[Thing], removed: bool) -> String {
    if things.is_empty() {
        return if removed { "nothing to remove\n" } else { "nothing of Bramble is in this machine's network\n" }.to_owned();
    }
    let line = |thing: &Thing| {
        let state = match (removed, thing.needed) {
            (true, _) => "removed",
            (false, true) => "needed",
            (false, false) => "left over",
        };
        format!("{state:<9}  {}: {}\n", thing.kind.word(), thing.name)
    };
    let mut text: String = things.iter().map(line).collect();
    if !removed && things.iter().any(|thing| !thing.needed) {
        text.push_str("what is left over belongs to no agent that runs here: bramble doctor network --remove\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::doctor::disk::ActError;
    use crate::agent::overlay::listing::Kind;

    #[test]
    fn what_is_left_over_is_told_with_the_way_to_remove_it() {
        let thing = |needed| Thing { kind: Kind::Link, name: "bvx-1".into(), of: None, needed };
        assert_eq!(told(&[thing(true)], false), "needed     link: bvx-1\n");
        let text = told(&[thing(false)], false);
        assert!(text.starts_with("left over  link: bvx-1\n") && text.ends_with("--remove\n"), "{text}");
        assert_eq!(told(&[], true), "nothing to remove\n");
    }

    fn visited(state: State, remedy: Remedy) -> Visited {
        let word = |word: &str| if state.is_wrong() { word.to_owned() } else { String::new() };
        let finding = Finding {
            id: "swap",
            state,
            what: "how it is".into(),
            why: word("what comes of it"),
            fix: word("does this"),
            remedy,
            then: word("sudo reboot"),
            undo: word("sudo mv a b\nsudo rm c"),
        };
        Visited { finding, done: Vec::new(), failed: None, undo: Vec::new() }
    }

    #[test]
    fn a_look_is_told_as_a_table_with_reason_fix_and_undo() {
        let seen = [
            visited(State::Problem, Remedy::Doctor(Vec::new())),
            visited(State::Ok, Remedy::Person),
            visited(State::Absent, Remedy::Person),
        ];
        assert_eq!(
            report(&seen, Path::new("/"), false),
            "problem  swap             how it is\n\
             \x20        why     what comes of it\n\
             \x20        fix     does this\n\
             \x20        then    sudo reboot\n\
             \x20        undo    sudo mv a b\n\
             \x20                sudo rm c\n\
             ok       swap             how it is\n\
             -        swap             how it is\n\
             \n\
             wrong: 1; of these 1 are mended by: sudo bramble doctor --fix\n"
        );
        assert!(report(&seen, Path::new("/mnt"), false).ends_with(": sudo bramble doctor --root /mnt --fix\n"));
        assert!(report(&seen, Path::new("/mnt/a b"), false).ends_with(": sudo bramble doctor --root '/mnt/a b' --fix\n"));
        let text = report(&[visited(State::Warning, Remedy::Person)], Path::new("/"), false);
        assert!(text.starts_with("warning  swap ") && text.ends_with("\n\nwrong: 1; that is for you to mend\n"), "{text}");
        assert!(report(&[visited(State::Ok, Remedy::Person)], Path::new("/"), true).ends_with("\n\nnothing is wrong\n"));
    }

    #[test]
    fn names_from_a_card_do_nothing_to_the_terminal() {
        let mut odd = visited(State::Warning, Remedy::Person);
        odd.finding.what = "\u{1b}]0;x\u{7} is read-only\nok       swap             how it is".into();
        odd.finding.fix = "see \u{9b}2J".into();
        odd.done = vec![Done::Wrote { path: "/a\r".into(), backup: None }];
        let text = report(&[odd], Path::new("/"), true);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.starts_with(r"warning  swap             \u{1b}]0;x\u{7} is read-only\nok "), "{text}");
        assert!(text.contains(r"see \u{9b}2J") && text.contains(r"wrote /a\r, which is new"), "{text}");
    }

    #[test]
    fn what_was_done_is_told_with_its_own_undo() {
        let mut mended = visited(State::Warning, Remedy::Person);
        mended.done = vec![
            Done::Wrote { path: "/etc/a".into(), backup: Some("/etc/a.before-bramble".into()) },
            Done::Wrote { path: "/etc/b".into(), backup: None },
            Done::Ran("systemctl disable --now c".into()),
        ];
        mended.undo = vec!["sudo rm /etc/b".into()];
        mended.failed = Some(ActError::Copies("/etc/d".into()));
        assert_eq!(
            report(&[mended], Path::new("/"), true),
            "warning  swap             how it is\n\
             \x20        done    wrote /etc/a; as it was: /etc/a.before-bramble\n\
             \x20                wrote /etc/b, which is new\n\
             \x20                ran systemctl disable --now c\n\
             \x20        failed  /etc/d has 99 copies from before: remove those that nobody needs\n\
             \x20        why     what comes of it\n\
             \x20        fix     does this\n\
             \x20        then    sudo reboot\n\
             \x20        undo    sudo rm /etc/b\n\
             \n\
             wrong: 1; that is for you to mend\n"
        );
        let mut failed = visited(State::Warning, Remedy::Person);
        failed.failed = Some(ActError::Copies("/etc/d".into()));
        assert!(!report(&[failed], Path::new("/"), true).contains("undo"), "nothing was done");
    }

    #[test]
    fn programs_get_it_as_one_object() {
        let json = serde_json::to_value(Examined::of(&[
            visited(State::Warning, Remedy::WhenNamed(Vec::new())),
            visited(State::Absent, Remedy::Person),
        ]))
        .unwrap();
        assert_eq!(
            json,
            serde_json::json!({"wrong": 1, "findings": [
                {"id": "swap", "state": "warning", "what": "how it is", "why": "what comes of it", "fix": "does this", "fixed_by": "doctor_when_named",
                 "then": "sudo reboot", "undo": ["sudo mv a b", "sudo rm c"], "done": [], "failed": null},
                {"id": "swap", "state": "absent", "what": "how it is", "why": "", "fix": "", "fixed_by": null, "then": "", "undo": [], "done": [], "failed": null},
            ]})
        );
    }
}
