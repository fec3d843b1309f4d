//! Image names and platforms, as registries and Docker write them.
//!
//! In:       texts: `nginx`, `pi.local:5000/a/b:1`, `linux/arm/v7`.
//! Out:      the repository in full, the name to fetch by, and whether a machine runs what an image holds.
//! Source:   the reference grammar of the distribution project; platform words are Go's, as the OCI image specification has them.

use std::fmt;

/// The registry of a name that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// Host and path of an image, in full and without tag and digest: `nginx:1` → `docker.io/library/nginx`.
#[must_use]
pub fn repository(image: &str) -> String {
    let (name, _, _) = parts(image);
    match name.split_once('/') {
        Some((host, path)) if is_host(host) => {
            let host = if host == "index.docker.io" { DEFAULT_REGISTRY } else { host };
            let library = if host == DEFAULT_REGISTRY && !path.contains('/') { "library/" } else { "" };
            format!("{host}/{library}{path}")
        }
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
        None => format!("{DEFAULT_REGISTRY}/library/{name}"),
    }
}

/// The host (and port) of an image's registry.
#[must_use]
pub fn registry(image: &str) -> String {
    repository(image).split('/').next().unwrap_or(DEFAULT_REGISTRY).to_owned()
}

/// The name to fetch by: with `latest` when it has neither tag nor digest, because a registry would give every tag.
#[must_use]
pub fn tagged(image: &str) -> String {
    let (_, tag, digest) = parts(image);
    if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() }
}

/// Whether this can be an image's name at all.
///
/// # Errors
/// Why not, in the words of the distribution project's reference parser, which Docker and the kubelet use.
pub fn check(image: &str) -> Result<(), String> {
    let invalid = || Err("invalid reference format".to_owned());
    if image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(format!("invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"));
    }
    let full = match image.split_once('/') {
        Some((host, _)) if is_host(host) || host.to_lowercase() != host => image.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{image}"),
        None => format!("{DEFAULT_REGISTRY}/library/{image}"),
    };
    let (name, tag, digest) = parts(&full);
    let Some((host, path)) = name.split_once('/') else { return invalid() };
    if path.chars().any(char::is_uppercase) {
        return Err(format!("invalid reference format: repository name ({path}) must be lowercase"));
    }
    if !is_registry(host) || !path.split('/').all(is_component) {
        return invalid();
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag =
        |tag: &str| tag.len() <= 128 && tag.starts_with(is_word) && tag.chars().all(|c| is_word(c) || c == '.' || c == '-');
    if !tag.is_none_or(is_tag) {
        return invalid();
    }
    if name.len() > 255 {
        return Err("repository name must not be more than 255 characters".to_owned());
    }
    digest.map_or(Ok(()), check_digest)
}

fn check_digest(digest: &str) -> Result<(), String> {
    let is_hex = |c: char| c.is_ascii_hexdigit();
    match digest.split_once(':') {
        Some((algorithm, hex))
            if algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
                && algorithm.chars().all(|c| c.is_ascii_alphanumeric() || "-_+.".contains(c))
                && hex.len() >= 32
                && hex.chars().all(is_hex) =>
        {
            let length = match algorithm {
                "sha256" => 64,
                "sha384" => 96,
                "sha512" => 128,
                _ => return Err("unsupported digest algorithm".to_owned()),
            };
            if hex.len() == length { Ok(()) } else { Err("invalid checksum digest length".to_owned()) }
        }
        _ => Err("invalid reference format".to_owned()),
    }
}

/// A host name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_registry(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric();
        part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || c == '-')
    };
    let is_name = match name.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':')),
        None => name.split('.').all(is_part),
    };
    is_name && port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

/// Lowercase letters and digits; between them one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(plain).filter(|between| !between.is_empty());
    part.starts_with(plain)
        && part.ends_with(plain)
        && separators.into_iter().all(|between| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-'))
}

/// Whether two names are of the same image: engines tell `nginx`, `nginx:latest` and `docker.io/library/nginx:latest` of one.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    let (one, other) = (tagged(one), tagged(other));
    let ((_, tag, digest), (_, other_tag, other_digest)) = (parts(&one), parts(&other));
    repository(&one) == repository(&other) && tag == other_tag && digest == other_digest
}

/// Name, tag and digest.
fn parts(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash is a port's.
    match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag), digest),
        None => (rest, None, digest),
    }
}

/// Whether the first part of a name is a registry and no folder.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

/// What a program is made for, or what a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `arm64`, `arm`, `amd64`, `386`; empty when it is not known.
    pub architecture: String,
    /// `v6`, `v7`; empty when there is but one, or when nobody says.
    pub variant: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// How a machine runs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// As its own, or nobody knows what it is made for.
    Own,
    /// In the 32-bit mode of its processor.
    ThirtyTwoBit,
    /// By what its owner set up: an emulator.
    Emulated,
}

impl Platform {
    /// From three texts as image and machine descriptions have them; other names of an architecture become Go's.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, known) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), ""),
            "aarch64" => ("arm64".to_owned(), ""),
            "i386" | "i686" | "x86" => ("386".to_owned(), ""),
            "armhf" | "armv7l" => ("arm".to_owned(), "v7"),
            "armel" | "armv6l" => ("arm".to_owned(), "v6"),
            other => (other.to_owned(), ""),
        };
        let variant = if variant.is_empty() { known } else { variant };
        // There is one arm64 that anybody makes images for.
        let variant = if architecture == "arm64" && variant == "v8" { "" } else { variant };
        let os = if os.is_empty() { "linux".to_owned() } else { os.to_ascii_lowercase() };
        Self { os, architecture, variant: variant.to_owned() }
    }

    /// `linux/arm/v7`; `None` for what is no platform.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        let whole = parts.next().is_none() && !os.is_empty() && !architecture.is_empty();
        whole.then(|| Self::new(os, architecture, variant))
    }

    /// How this machine runs an image of that platform; `None`: it does not.
    ///
    /// An ARM runs what was made for the versions before its own. A 64-bit Pi runs 32-bit programs (Cortex-A53, A72 and A76 all
    /// can, in user space), and a PC those of a 386.
    #[must_use]
    pub fn runs(&self, image: &Platform) -> Option<Fit> {
        if image.architecture.is_empty() || self.architecture.is_empty() {
            return Some(Fit::Own);
        }
        if self.os != image.os {
            return None;
        }
        match (self.architecture.as_str(), image.architecture.as_str()) {
            ("arm", "arm") => {
                let fits = match (version(&self.variant), version(&image.variant)) {
                    (Some(machine), Some(made)) => made <= machine,
                    _ => true,
                };
                fits.then_some(Fit::Own)
            }
            (one, other) if one == other => Some(Fit::Own),
            // A 64-bit ARM in 32-bit mode is an ARMv8, which runs v7.
            ("arm64", "arm") | ("amd64", "386") => Some(Fit::ThirtyTwoBit),
            _ => None,
        }
    }
}

/// `v7` → 7.
fn version(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.parse().ok()
}

/// All that a node runs: what it is, and what its owner says that it runs besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platforms {
    /// What it is.
    pub own: Platform,
    /// Emulated ones.
    pub emulated: Vec<Platform>,
}

impl Platforms {
    /// `linux/arm64,linux/amd64`, its own first; `None` when that is no list of platforms.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = text.split(',').map(Platform::parse).collect::<Option<Vec<_>>>()?.into_iter();
        Some(Self { own: all.next()?, emulated: all.collect() })
    }

    /// How the node runs an image of that platform.
    #[must_use]
    pub fn runs(&self, image: &Platform) -> Option<Fit> {
        let emulated = || self.emulated.iter().any(|other| other.runs(image).is_some()).then_some(Fit::Emulated);
        self.own.runs(image).or_else(emulated)
    }

    /// The best of what there is; `None`: nothing of it runs here.
    #[must_use]
    pub fn best<'a>(&self, there: &'a [Platform]) -> Option<(&'a Platform, Fit)> {
        // Of two that fit alike the later version is the better.
        let rated = there.iter().filter_map(|image| Some((image, self.runs(image)?)));
        rated.min_by(|(a, fit), (b, other)| fit.cmp(other).then(version(&b.variant).cmp(&version(&a.variant))))
    }

    /// What this node runs beside its own, the better first.
    pub fn second_best(&self) -> impl Iterator<Item = Platform> + '_ {
        let thirty_two =
            [("386", ""), ("arm", "v7")].map(|(architecture, variant)| Platform::new(&self.own.os, architecture, variant));
        let fits = thirty_two.into_iter().filter(|platform| self.own.runs(platform) == Some(Fit::ThirtyTwoBit));
        fits.chain(self.emulated.iter().cloned())
    }

    /// Why nothing of it runs here, for a person; `None` when something does, or when nobody knows what there is.
    #[must_use]
    pub fn unfit(&self, image: &str, there: &[Platform]) -> Option<String> {
        if there.is_empty() || self.best(there).is_some() {
            return None;
        }
        Some(format!("image \"{image}\" is for {} only; this node is {}", listed(there), self.own))
    }
}

/// `linux/amd64, linux/386 and linux/arm/v7`.
#[must_use]
pub fn listed(platforms: &[Platform]) -> String {
    let mut names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.dedup();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_its_own_a_node_runs_its_32_bit_mode_and_what_it_emulates() {
        for (node, others) in [
            ("linux/amd64", &["linux/386"][..]),
            ("linux/arm64,linux/amd64", &["linux/arm/v7", "linux/amd64"]),
            ("linux/arm/v7", &[]),
        ] {
            let found: Vec<String> = Platforms::parse(node).unwrap().second_best().map(|platform| platform.to_string()).collect();
            assert_eq!(found, others, "{node}");
        }
    }

    #[test]
    fn what_is_no_name_is_told_in_upstreams_words() {
        let hex = "a".repeat(64);
        let none = "invalid reference format";
        let upper = |name: &str| format!("{none}: repository name ({name}) must be lowercase");
        for (image, why) in [
            ("nginx", None),
            ("nginx:1", None),
            ("nginx:1_0-rc.1", None),
            ("a/b-c/d__e.f:latest", None),
            ("pi.local:5000/a/b:1", None),
            ("localhost/a", None),
            ("Pi.Local/a", None),
            ("[::1]:5000/a", None),
            ("[fe80::1]/a:1", None),
            (&format!("nginx@sha256:{hex}"), None),
            (&format!("nginx:1@sha256:{hex}"), None),
            ("UPPER case!!", Some(upper("library/UPPER case!!"))),
            ("busyBOX", Some(upper("library/busyBOX"))),
            ("pi.local/Web:1", Some(upper("Web"))),
            ("a:b:c", Some(none.to_owned())),
            ("images:ubuntu/24.04", Some(none.to_owned())),
            ("", Some(none.to_owned())),
            (" ", Some(none.to_owned())),
            ("nginx:", Some(none.to_owned())),
            (":1", Some(none.to_owned())),
            ("nginx:-1", Some(none.to_owned())),
            ("nginx:ü", Some(none.to_owned())),
            ("https://pi.local/web", Some(none.to_owned())),
            ("/web", Some(none.to_owned())),
            ("pi.local//web", Some(none.to_owned())),
            ("a/b/", Some(none.to_owned())),
            ("a..b", Some(none.to_owned())),
            ("a___b", Some(none.to_owned())),
            ("a b", Some(none.to_owned())),
            ("-a", Some(none.to_owned())),
            ("pi.local:x/a", Some(none.to_owned())),
            ("nginx@sha256:abc", Some(none.to_owned())),
            ("nginx@", Some(none.to_owned())),
            (&format!("nginx@sha256:{}", "a".repeat(63)), Some("invalid checksum digest length".to_owned())),
            (&format!("nginx@md5:{}", "a".repeat(32)), Some("unsupported digest algorithm".to_owned())),
            (&format!("nginx:{}", "1".repeat(129)), Some(none.to_owned())),
            (&hex, Some(format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"))),
            (&"a/".repeat(140), Some(none.to_owned())),
            (&format!("{}a", "a/".repeat(140)), Some("repository name must not be more than 255 characters".to_owned())),
        ] {
            assert_eq!(check(image).err(), why, "{image}");
        }
    }

    #[test]
    fn names_are_read_as_registries_read_them() {
        for (image, full, fetched) in [
            ("nginx", "docker.io/library/nginx", "nginx:latest"),
            ("nginx:1", "docker.io/library/nginx", "nginx:1"),
            ("a/b", "docker.io/a/b", "a/b:latest"),
            ("docker.io/nginx", "docker.io/library/nginx", "docker.io/nginx:latest"),
            ("index.docker.io/a/b:2", "docker.io/a/b", "index.docker.io/a/b:2"),
            ("localhost/a", "localhost/a", "localhost/a:latest"),
            ("pi.local:5000/a/b", "pi.local:5000/a/b", "pi.local:5000/a/b:latest"),
            ("127.0.0.1:5000/a:b", "127.0.0.1:5000/a", "127.0.0.1:5000/a:b"),
            ("a@sha256:0", "docker.io/library/a", "a@sha256:0"),
            ("r.io/a:1@sha256:0", "r.io/a", "r.io/a:1@sha256:0"),
        ] {
            assert_eq!((repository(image).as_str(), tagged(image).as_str()), (full, fetched), "{image}");
        }
        assert_eq!(registry("pi.local:5000/a/b@sha256:0"), "pi.local:5000");
    }

    #[test]
    fn each_board_runs_what_its_processor_can() {
        use Fit::{Own, ThirtyTwoBit};
        for (node, image, fit) in [
            ("linux/arm64", "linux/arm64/v8", Some(Own)),
            ("linux/arm64", "linux/arm/v7", Some(ThirtyTwoBit)),
            ("linux/arm64", "linux/arm/v6", Some(ThirtyTwoBit)),
            ("linux/arm64", "linux/amd64", None),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/v6", Some(Own)),
            ("linux/arm/v6", "linux/arm", Some(Own)),
            ("linux/arm/v7", "linux/arm64", None),
            ("linux/amd64", "linux/386", Some(ThirtyTwoBit)),
            ("linux/amd64", "linux/amd64/v2", Some(Own)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/x86_64", "linux/amd64", Some(Own)),
        ] {
            let read = |text| Platform::parse(text).unwrap();
            assert_eq!(read(node).runs(&read(image)), fit, "{image} on {node}");
        }
        assert_eq!(Platform::new("", "", "").runs(&Platform::new("linux", "arm", "")), Some(Own), "nobody knows");
        assert_eq!(Platform::parse("arm64"), None);
    }

    #[test]
    fn the_best_is_taken_and_what_fits_nowhere_is_said() {
        let read = |text: &str| text.split_whitespace().filter_map(Platform::parse).collect::<Vec<_>>();
        let pi = Platforms { own: Platform::new("linux", "arm64", ""), emulated: Vec::new() };
        let best = |there: &str| pi.best(&read(there)).map(|(platform, _)| platform.to_string());
        assert_eq!(best("linux/amd64 linux/arm/v6 linux/arm/v7 linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(best("linux/amd64 linux/arm/v6 linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(
            pi.unfit("x", &read("linux/amd64 linux/386")).as_deref(),
            Some("image \"x\" is for linux/amd64 and linux/386 only; this node is linux/arm64")
        );
        assert_eq!(pi.unfit("x", &[]), None);
        let emulates = Platforms { emulated: read("linux/amd64"), ..pi };
        assert_eq!(emulates.best(&read("linux/amd64")).map(|(_, fit)| fit), Some(Fit::Emulated));
    }
}
