//! Docker restarted, hung, and the seeds of nothing leaks, on real Docker.
