//! devices given to pods, on real Docker.
