//! eviction, logs that are capped, a full disk, on real Docker.
