//! Whether the kernel has its memory controller: without it no pod's memory is limited, counted or protected.
//!
//! The firmware's device tree of a Pi boots the kernel with `cgroup_disable=memory`; Raspberry Pi's kernel takes `cgroup_enable=memory`
//! as the answer to that, older ones `cgroup_memory=1`. Source: the documentation of Docker and of Kubernetes' distributions for Pis.

use super::{Act, Finding, Host, State, cmdline, undo_of_file};

/// This check's name.
pub const ID: &str = "memory-cgroup";
/// What is put into the command line.
const WORDS: &[&str] = &["cgroup_enable=memory", "cgroup_memory=1"];
const WHY: &str = "no pod's memory limit holds and nobody's use is counted: one pod that leaks takes the whole Pi down";
const REBOOT: &str = "sudo reboot";

/// Looks.
pub fn look(host: &dyn Host) -> Finding {
    let running = running(host);
    if running == Some(true) {
        return Finding::ok(ID, "the kernel limits and counts memory")
            .undoable(cmdline::place(host).and_then(|place| undo_of_file(host, &place)));
    }
    let missing = || Finding::new(ID, State::Problem, "the kernel runs without its memory controller").because(WHY);
    let Some(place) = cmdline::place(host) else {
        return match running {
            None => Finding::absent(ID, "no running kernel and no cmdline.txt to judge by"),
            _ => missing()
                .todo("take cgroup_disable=memory out of the kernel's command line in the boot loader's settings, and reboot"),
        };
    };
    let shown = host.shown(&place);
    let Some(text) = host.read(&place).text() else {
        return missing().todo(format!("{shown} cannot be read; look again as root"));
    };
    if cmdline::enables_memory(&text) {
        let undo = undo_of_file(host, &place);
        return match running {
            None => Finding::ok(ID, format!("{shown} turns the memory controller on")),
            // `/proc/cmdline` is what this kernel was given.
            _ if host.read("/proc/cmdline").text().is_some_and(|given| cmdline::enables_memory(&given)) => missing().todo(
                format!("{shown} turns it on already, yet this kernel does not have it: use Raspberry Pi's or Debian's kernel"),
            ),
            _ => Finding::new(ID, State::Warning, format!("{shown} turns the memory controller on, from the next boot"))
                .because(WHY)
                .todo(REBOOT),
        }
        .undoable(undo);
    }
    let found = match running {
        None => Finding::new(ID, State::Problem, format!("{shown} does not turn the memory controller on")).because(WHY),
        _ => missing(),
    };
    let does = format!("adds \"{}\" to the line in {shown}", WORDS.join(" "));
    match cmdline::with_words(&text, WORDS) {
        Ok(content) => found.mended_by(host, does, vec![Act::Write { path: place, content }]).then(REBOOT),
        Err(refusal) => found.todo(format!(
            "by hand, for {shown} is left alone ({refusal}): add \"{}\" to its one line, and reboot",
            WORDS.join(" ")
        )),
    }
}

/// Whether the kernel that runs has it; `None`: no kernel is seen.
fn running(host: &dyn Host) -> Option<bool> {
    let version2 = host.read("/sys/fs/cgroup/cgroup.controllers").text();
    // `memory 4 13 1`: name, hierarchy, how many, enabled. Kernels that know version 2 only may not list it.
    let version1 = host.read("/proc/cgroups").text();
    if version2.is_none() && version1.is_none() {
        return None;
    }
    let listed = version2.is_some_and(|text| text.split_ascii_whitespace().any(|name| name == "memory"));
    let enabled = version1.is_some_and(|text| {
        let mut lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        lines.any(|fields| fields.first() == Some(&"memory") && fields.last() == Some(&"1"))
    });
    Some(listed || enabled)
}
