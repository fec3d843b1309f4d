//! hooks, ends, sidecars and last words, on real Docker.
