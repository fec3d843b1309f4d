//! volumes of every kind, and their live updates, on real Docker.
