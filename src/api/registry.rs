//! Every kind that the API serves: one table, from which handlers, discovery, OpenAPI and printing come. Adding a kind is
//! adding one row.

use super::object::Object;
use super::printer::{self, Printer};
use super::validate::FieldError;
use super::{default, validate};

/// What can be done below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// Reads and writes only `status`.
    Status,
    /// `autoscaling/v1` Scale.
    Scale,
    /// A container's log (GET).
    Log,
    /// Binds a pod to a node (POST).
    Binding,
    /// Asks for a pod's eviction (POST, `policy/v1`).
    Eviction,
    /// Adds containers to a running pod, for `kubectl debug`.
    EphemeralContainers,
    /// Ends a namespace (PUT).
    Finalize,
    /// Says yes or no to a request for a certificate.
    Approval,
}

/// What is special about one kind when it is written. All pure.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// Fills in what the API documents as default.
    pub default: fn(&mut Object),
    /// What is wrong with a new object.
    pub validate: fn(&Object) -> Vec<FieldError>,
    /// What is wrong with a change from the first to the second (immutable fields; `validate` is called as well).
    pub validate_update: fn(&Object, &Object) -> Vec<FieldError>,
}

/// One row.
pub struct Resource {
    /// `""` for core.
    pub group: &'static str,
    /// For example `v1`.
    pub version: &'static str,
    /// For example `Pod`.
    pub kind: &'static str,
    /// For example `pods`.
    pub plural: &'static str,
    /// For example `pod`.
    pub singular: &'static str,
    /// For example `po`.
    pub short_names: &'static [&'static str],
    /// `all` puts it into `kubectl get all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What stands below its objects.
    pub subresources: &'static [Subresource],
    /// Whether its objects count changes of what is wanted in `metadata.generation`.
    pub generation: bool,
    /// What is special when it is written.
    pub strategy: Strategy,
    /// How `kubectl get` shows it.
    pub printer: &'static Printer,
}

impl Resource {
    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `deployments.apps`, as error messages name it.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it has this subresource.
    #[must_use]
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

// A resource is its row: identity is group and plural.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}
impl Eq for Resource {}
impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Resource {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}
impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.plural).hash(state);
    }
}
impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.qualified())
    }
}

/// A row with what most kinds have; the table names only what differs.
pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    subresources: &[],
    generation: false,
    strategy: PLAIN,
    printer: &printer::NAME_AND_AGE,
};

/// Neither defaults nor rules beyond those for all objects (`validate::object`).
const PLAIN: Strategy = Strategy { default: |_| {}, validate: |_| Vec::new(), validate_update: |_, _| Vec::new() };

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $row:expr;)*) => {
        $($(#[$doc])* pub static $name: Resource = $row;)*
        /// All rows, in the order in which discovery lists them.
        pub static ALL: &[&Resource] = &[$(&$name),*];
    };
}

table! {
    /// `v1` Pod.
    PODS = Resource { kind: "Pod", plural: "pods", singular: "pod", short_names: &["po"], categories: &["all"],
        subresources: &[Subresource::Status, Subresource::Log, Subresource::Binding, Subresource::Eviction, Subresource::EphemeralContainers], generation: true,
        strategy: Strategy { default: default::pod::fill, validate: validate::pod::errors, validate_update: validate::pod::update_errors },
        printer: &printer::pod::PRINTER, ..ROW };
    /// `v1` Node.
    NODES = Resource { kind: "Node", plural: "nodes", singular: "node", short_names: &["no"], namespaced: false,
        subresources: &[Subresource::Status], strategy: Strategy { validate: validate::node::errors, validate_update: validate::node::update_errors, ..PLAIN },
        printer: &printer::node::PRINTER, ..ROW };
    /// `v1` Namespace.
    NAMESPACES = Resource { kind: "Namespace", plural: "namespaces", singular: "namespace", short_names: &["ns"], namespaced: false,
        subresources: &[Subresource::Status, Subresource::Finalize],
        strategy: Strategy { default: default::namespace::fill, validate: validate::namespace::errors, ..PLAIN }, printer: &printer::namespace::PRINTER, ..ROW };
    /// `v1` Service.
    SERVICES = Resource { kind: "Service", plural: "services", singular: "service", short_names: &["svc"], categories: &["all"],
        subresources: &[Subresource::Status],
        strategy: Strategy { default: default::service::fill, validate: validate::service::errors, validate_update: validate::service::update_errors },
        printer: &printer::service::PRINTER, ..ROW };
    /// `v1` Endpoints.
    ENDPOINTS = Resource { kind: "Endpoints", plural: "endpoints", singular: "endpoints", short_names: &["ep"],
        strategy: Strategy { default: default::endpoints::fill, validate: validate::network::errors, ..PLAIN },
        printer: &printer::endpoints::PRINTER, ..ROW };
    /// `v1` ConfigMap.
    CONFIG_MAPS = Resource { kind: "ConfigMap", plural: "configmaps", singular: "configmap", short_names: &["cm"],
        strategy: Strategy { validate: validate::configmap::errors, validate_update: validate::configmap::update_errors, ..PLAIN },
        printer: &printer::configmap::PRINTER, ..ROW };
    /// `v1` Secret.
    SECRETS = Resource { kind: "Secret", plural: "secrets", singular: "secret",
        strategy: Strategy { default: default::secret::fill, validate: validate::configmap::secret_errors,
            validate_update: validate::configmap::secret_update_errors },
        printer: &printer::secret::PRINTER, ..ROW };
    /// `v1` Event.
    EVENTS = Resource { kind: "Event", plural: "events", singular: "event", short_names: &["ev"],
        strategy: Strategy { validate: validate::record::event_errors, ..PLAIN }, printer: &printer::event::PRINTER, ..ROW };
    /// `v1` ServiceAccount.
    SERVICE_ACCOUNTS = Resource { kind: "ServiceAccount", plural: "serviceaccounts", singular: "serviceaccount", short_names: &["sa"],
        printer: &printer::serviceaccount::PRINTER, ..ROW };
    /// `v1` PersistentVolume.
    PERSISTENT_VOLUMES = Resource { kind: "PersistentVolume", plural: "persistentvolumes", singular: "persistentvolume", short_names: &["pv"],
        namespaced: false, subresources: &[Subresource::Status],
        strategy: Strategy { default: default::volume::fill, validate: validate::storage::volume_errors,
            validate_update: validate::storage::volume_update_errors },
        printer: &printer::volume::PRINTER, ..ROW };
    /// `v1` PersistentVolumeClaim.
    PERSISTENT_VOLUME_CLAIMS = Resource { kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims", singular: "persistentvolumeclaim",
        short_names: &["pvc"], subresources: &[Subresource::Status],
        strategy: Strategy { default: default::volume::fill_claim, validate: validate::storage::claim_errors,
            validate_update: validate::storage::claim_update_errors },
        printer: &printer::volume::CLAIM_PRINTER, ..ROW };
    /// `apps/v1` Deployment.
    DEPLOYMENTS = Resource { group: "apps", kind: "Deployment", plural: "deployments", singular: "deployment", short_names: &["deploy"],
        categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale], generation: true,
        strategy: Strategy { default: default::deployment::fill, validate: validate::deployment::errors, validate_update: validate::deployment::update_errors },
        printer: &printer::deployment::PRINTER, ..ROW };
    /// `apps/v1` ReplicaSet.
    REPLICA_SETS = Resource { group: "apps", kind: "ReplicaSet", plural: "replicasets", singular: "replicaset", short_names: &["rs"],
        categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale], generation: true,
        strategy: Strategy { default: default::replicaset::fill, validate: validate::deployment::replica_set_errors, validate_update: validate::deployment::update_errors },
        printer: &printer::replicaset::PRINTER, ..ROW };
    /// `certificates.k8s.io/v1` CertificateSigningRequest.
    CERTIFICATE_SIGNING_REQUESTS = Resource { group: "certificates.k8s.io", kind: "CertificateSigningRequest",
        plural: "certificatesigningrequests", singular: "certificatesigningrequest", short_names: &["csr"], namespaced: false,
        subresources: &[Subresource::Approval, Subresource::Status],
        strategy: Strategy { validate: validate::certificate::errors, validate_update: validate::certificate::update_errors, ..PLAIN },
        printer: &printer::certificate::PRINTER, ..ROW };
    /// `coordination.k8s.io/v1` Lease.
    LEASES = Resource { group: "coordination.k8s.io", kind: "Lease", plural: "leases", singular: "lease",
        strategy: Strategy { validate: validate::record::lease_errors, ..PLAIN }, printer: &printer::lease::PRINTER, ..ROW };
    /// `discovery.k8s.io/v1` EndpointSlice.
    ENDPOINT_SLICES = Resource { group: "discovery.k8s.io", kind: "EndpointSlice", plural: "endpointslices", singular: "endpointslice",
        strategy: Strategy { default: default::endpoints::fill_slice, validate: validate::network::slice_errors,
            validate_update: validate::network::slice_update_errors },
        printer: &printer::endpoints::SLICE_PRINTER, ..ROW };
    /// `networking.k8s.io/v1` Ingress.
    INGRESSES = Resource { group: "networking.k8s.io", kind: "Ingress", plural: "ingresses", singular: "ingress", short_names: &["ing"],
        subresources: &[Subresource::Status], generation: true, strategy: Strategy { validate: validate::ingress::errors, ..PLAIN },
        printer: &printer::networking::INGRESS_PRINTER, ..ROW };
    /// `networking.k8s.io/v1` IngressClass.
    INGRESS_CLASSES = Resource { group: "networking.k8s.io", kind: "IngressClass", plural: "ingressclasses", singular: "ingressclass",
        namespaced: false, generation: true,
        strategy: Strategy { default: default::networking::fill_class, validate: validate::ingress::class_errors,
            validate_update: validate::ingress::class_update_errors },
        printer: &printer::networking::CLASS_PRINTER, ..ROW };
    /// `networking.k8s.io/v1` NetworkPolicy.
    NETWORK_POLICIES = Resource { group: "networking.k8s.io", kind: "NetworkPolicy", plural: "networkpolicies", singular: "networkpolicy",
        short_names: &["netpol"], generation: true,
        strategy: Strategy { default: default::networking::fill_policy, validate: validate::policy::errors, ..PLAIN },
        printer: &printer::networking::POLICY_PRINTER, ..ROW };
    /// `scheduling.k8s.io/v1` PriorityClass.
    PRIORITY_CLASSES = Resource { group: "scheduling.k8s.io", kind: "PriorityClass", plural: "priorityclasses", singular: "priorityclass",
        short_names: &["pc"], namespaced: false,
        strategy: Strategy { default: default::volume::fill_priority_class, validate: validate::storage::priority_class_errors,
            validate_update: validate::storage::priority_class_update_errors },
        printer: &printer::volume::PRIORITY_CLASS_PRINTER, ..ROW };
    /// `storage.k8s.io/v1` StorageClass.
    STORAGE_CLASSES = Resource { group: "storage.k8s.io", kind: "StorageClass", plural: "storageclasses", singular: "storageclass",
        short_names: &["sc"], namespaced: false,
        strategy: Strategy { default: default::volume::fill_class, validate: validate::storage::class_errors,
            validate_update: validate::storage::class_update_errors },
        printer: &printer::volume::CLASS_PRINTER, ..ROW };
}

/// The row for a group, version and plural, as a request path names it.
#[must_use]
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|row| (row.group, row.version, row.plural) == (group, version, plural))
}

/// The row for a kind, as an owner reference or a body names it.
#[must_use]
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|row| row.kind == kind && row.api_version() == api_version)
}

/// The row for a group and plural, as the journal names it.
#[must_use]
pub fn by_plural(group: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|row| (row.group, row.plural) == (group, plural))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_rows_share_a_name_that_kubectl_resolves() {
        let mut seen = BTreeSet::new();
        for row in ALL {
            for name in [row.plural].into_iter().chain(row.short_names.iter().copied()) {
                assert!(seen.insert(name), "{name} twice");
            }
            assert_eq!(by_path(row.group, row.version, row.plural), Some(*row));
            assert_eq!(by_kind(&row.api_version(), row.kind), Some(*row));
        }
    }
}
