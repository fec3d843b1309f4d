//! `bramble kubectl …`: becomes the machine's kubectl, with KUBECONFIG set to the local cluster's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use crate::error::Report;
use crate::local::layout::Layout;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) place: super::Place,
    /// What kubectl is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(super) arguments: Vec<OsString>,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let layout = Layout::find(args.place.data_dir)?;
    layout.expect_cluster()?;
    // `exec` comes back only when it failed.
    let error = std::process::Command::new("kubectl").args(args.arguments).env("KUBECONFIG", layout.kubeconfig()).exec();
    let fix = match error.kind() {
        std::io::ErrorKind::NotFound => "install kubectl (https://kubernetes.io/docs/tasks/tools/) and see that it is in PATH",
        _ => "see that kubectl in PATH can be run by this user",
    };
    Err(Report::failed("cannot run kubectl").because(error).fix(fix))
}
