//! The table of figures, and the arithmetic on samples.

use std::time::Duration;

use anyhow::Context as _;

use crate::Setup;

/// Rows of Markdown below the conditions that held.
pub struct Table {
    text: String,
}

impl Table {
    /// Says under which conditions the figures come to be.
    pub fn begin(setup: &Setup) -> anyhow::Result<Self> {
        let mut table = Self { text: String::new() };
        // Cargo names the folder after the profile.
        let profile = setup.program.parent().and_then(std::path::Path::file_name).unwrap_or_default().to_string_lossy();
        table.line(&format!("`{}` ({profile}), {}\n", version(setup)?, conditions()));
        table.line("| what | aim | measured | how |");
        table.line("|---|---|---|---|");
        Ok(table)
    }

    /// A figure, with the load of the machine at that moment.
    pub fn row(&mut self, what: &str, aim: &str, measured: &str, how: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?").to_owned();
        self.line(&format!("| {what} | {aim} | {measured} | {how}; load {load} |"));
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn version(setup: &Setup) -> anyhow::Result<String> {
    let said = std::process::Command::new(&setup.program).arg("--version").output().context("cannot run the program")?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Processor, kernel, Docker.
fn conditions() -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("processor unknown");
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{cores} × {}, {}, Docker {}, {}",
        model.trim_start_matches([' ', '\t', ':']),
        said("uname", &["-srm"]).unwrap_or_default(),
        said("docker", &["version", "--format", "{{.Server.Version}}"]).unwrap_or_else(|| "absent".to_owned()),
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default(),
    )
}

/// The value below which `share` (0 to 1) of the samples are, by the nearest rank.
pub fn quantile<T: Copy + PartialOrd>(samples: &[T], share: f64) -> Option<T> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// `p50 3.1 ms, p99 12.0 ms`.
pub fn quantiles(samples: &[Duration]) -> String {
    let at = |share| quantile(samples, share).unwrap_or_default();
    format!("p50 {}, p99 {}", milliseconds(at(0.5)), milliseconds(at(0.99)))
}

/// `3.1 ms`; from 100 ms on without a fraction.
pub fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// `5.9 MiB`.
pub fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
