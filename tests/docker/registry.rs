//! pull secrets, registries, architectures, and the collection of images, on real Docker.
