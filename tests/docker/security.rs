//! limits, identity and rights, namespaces, host ports, on real Docker.
