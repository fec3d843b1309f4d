//! liveness, readiness and startup probes, on real Docker.
