//! Tables of cases for pods: what passes, what is refused and in which words, and what may change.

use super::*;
use crate::api::{default, validate::sentence};
use serde_json::json;

fn web() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}})
}

fn pod(change: impl FnOnce(&mut Value)) -> Object {
    let mut raw = web();
    change(&mut raw["spec"]);
    let mut object = Object::from_value(raw).unwrap();
    default::pod::fill(&mut object);
    object
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    sentence(&errors(&pod(change)))
}

/// Sets fields of the spec.
fn spec(fields: &Value) -> String {
    with(|spec| spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone()))
}

/// Sets fields of the container.
fn container(fields: &Value) -> String {
    with(|spec| spec["containers"][0].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone()))
}

/// How a pod is made from fields and judged, the fields, and the words of the judgement.
type Case = (fn(&Value) -> String, Value, &'static str);

fn check(table: Vec<Case>) {
    for (build, fields, words) in table {
        let text = build(&fields);
        // A long message may be given by its beginning.
        match words.strip_suffix('…') {
            Some(head) => assert!(text.starts_with(head), "{fields}\n  {text}"),
            None => assert_eq!(text, words, "{fields}"),
        }
    }
}

#[test]
fn a_full_pod_passes() {
    let text = with(|spec| {
        *spec = json!({
            "initContainers": [{"name": "prepare", "image": "a:1"}, {"name": "sidecar", "image": "a:1", "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["true"]}}}],
            "containers": [{
                "name": "web", "image": "nginx", "imagePullPolicy": "Never",
                "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
                "env": [{"name": "A", "value": "b"}, {"name": "EMPTY"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['example.com/a']"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}, {"prefix": "X_", "secretRef": {"name": "s"}}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/a"}, {"name": "files", "mountPath": "/b", "subPath": "x/y", "readOnly": true}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi", "example.com/camera": 1}, "requests": {"cpu": "100m", "ephemeral-storage": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
                "readinessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}, "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
                "securityContext": {"privileged": true, "runAsUser": 0},
            }],
            "volumes": [{"name": "scratch"}, {"name": "files", "configMap": {"name": "c", "items": [{"key": "k", "path": "d/f", "mode": 256}]}},
                {"name": "all", "projected": {"sources": [{"secret": {"name": "s"}}, {"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
                {"name": "dev", "hostPath": {"path": "/dev/gpiochip0", "type": "CharDevice"}}, {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "nodeSelector": {"kubernetes.io/arch": "arm64"}, "hostname": "web-0", "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5,
            "activeDeadlineSeconds": 60,
            "tolerations": [{"operator": "Exists"}, {"key": "a/b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 5}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
                    [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm":
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}],
        });
    });
    assert_eq!(text, "[]");
}

#[test]
fn names_are_found_as_far_as_a_resolver_goes() {
    check(vec![
        (
            spec,
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "2001:db8::1"], "searches": ["a.b.", "_tcp.a"]}}),
            "[]",
        ),
        (
            spec,
            json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}}),
            "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers",
        ),
        (
            spec,
            json!({"dnsConfig": {"nameservers": ["home"]}}),
            "spec.dnsConfig.nameservers[0]: Invalid value: \"home\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            spec,
            json!({"dnsConfig": {"searches": ["a b"]}}),
            "spec.dnsConfig.searches[0]: Invalid value: \"a b\": a lowercase RFC 1123 subdomain…",
        ),
        (
            spec,
            json!({"dnsConfig": {"options": [{"value": "2"}]}}),
            "spec.dnsConfig.options[0]: Required value: must not be empty",
        ),
        (spec, json!({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["nas.home"]}]}), "[]"),
        (
            spec,
            json!({"hostAliases": [{"ip": "nas", "hostnames": ["nas"]}]}),
            "spec.hostAliases[0].ip: Invalid value: \"nas\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ]);
    let many: Vec<String> = (0..33).map(|number| format!("s{number}")).collect();
    assert!(spec(&json!({"dnsConfig": {"searches": many}})).ends_with("must not have more than 32 search paths"));
    let long = vec!["a".repeat(250); 9];
    assert!(
        spec(&json!({"dnsConfig": {"searches": long}}))
            .ends_with("must not have more than 2048 characters (including spaces) in the search list")
    );
}

#[test]
fn what_a_pod_may_do_does_not_contradict_itself() {
    check(vec![
        (
            spec,
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}, {"name": "kernel/shm_rmid_forced", "value": "1"}],
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}}),
            "[]",
        ),
        (
            spec,
            json!({"shareProcessNamespace": true, "hostPID": true}),
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            spec,
            json!({"securityContext": {"sysctls": [{"name": "", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name: Required value",
        ),
        (
            spec,
            json!({"securityContext": {"sysctls": [{"name": "Net.x", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"Net.x\": must have at most 253 characters and match regex …",
        ),
        (
            spec,
            json!({"securityContext": {"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net/a", "value": "2"}]}}),
            "spec.securityContext.sysctls[1].name: Duplicate value: \"net/a\"",
        ),
        (
            spec,
            json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_forward\": may not be specified when 'hostNetwork' is true",
        ),
        (
            spec,
            json!({"hostIPC": true, "securityContext": {"sysctls": [{"name": "kernel.shmmax", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true",
        ),
        (
            container,
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            container,
            json!({"securityContext": {"seccompProfile": {"type": "Odd"}}}),
            "spec.containers[0].securityContext.seccompProfile.type: Unsupported value: \"Odd\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
        ),
        (
            container,
            json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}}),
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"capabilities\":{\"add\":[\"CAP_SYS_ADMIN\"]}}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        ),
    ]);
}

#[test]
fn volumes_and_mounts_do_not_contradict_themselves() {
    let mounted = |mount: Value| {
        with(|spec| {
            spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
            spec["containers"][0]["volumeMounts"] = json!([mount]);
        })
    };
    assert_eq!(
        mounted(json!({"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"})),
        "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
    );
    assert_eq!(
        mounted(json!({"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled"})),
        "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true"
    );
    let volume = |volume: Value| spec(&json!({"volumes": [volume]}));
    let twice = json!([{"secret": {"name": "a", "items": [{"key": "k", "path": "f"}]}}, {"configMap": {"name": "b", "items": [{"key": "k", "path": "f"}]}}]);
    assert_eq!(
        volume(json!({"name": "v", "projected": {"sources": twice}})),
        "spec.volumes[0].projected: Invalid value: \"f\": conflicting duplicate paths"
    );
    assert_eq!(volume(json!({"name": "v", "image": {}})), "spec.volumes[0].image.reference: Required value");
    assert_eq!(volume(json!({"name": "v", "ephemeral": {}})), "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value");
    assert!(
        volume(
            json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}})
        )
        .starts_with("spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value")
    );
}

#[test]
fn a_hook_sleeps_no_longer_than_its_pod_has_to_stop() {
    let sleep = |seconds: i64| container(&json!({"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}));
    assert_eq!((sleep(0), sleep(30)), ("[]".to_owned(), "[]".to_owned()));
    assert_eq!(
        sleep(31),
        "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
    );
}

#[test]
fn some_things_are_added_to_a_pod_only_later() {
    let new = |change: fn(&mut Value)| sentence(&create_errors(&pod(change)));
    assert_eq!(new(|_| ()), "[]");
    assert_eq!(
        new(|spec| spec["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}])),
        "spec.ephemeralContainers: Forbidden: cannot be set on create"
    );
    assert_eq!(
        new(|spec| {
            spec["nodeName"] = json!("pi");
            spec["schedulingGates"] = json!([{"name": "a/b"}]);
        }),
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
    );
}

#[test]
fn containers_are_complete_and_called_by_one_name_each() {
    check(vec![
        (spec, json!({"containers": []}), "spec.containers: Required value"),
        (spec, json!({"containers": null}), "spec.containers: Required value"),
        (container, json!({"name": ""}), "spec.containers[0].name: Required value"),
        (
            container,
            json!({"name": "Web"}),
            "spec.containers[0].name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of …",
        ),
        (container, json!({"image": ""}), "spec.containers[0].image: Required value"),
        (
            container,
            json!({"image": " nginx"}),
            "spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace",
        ),
        (
            container,
            json!({"imagePullPolicy": "Sometimes"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            container,
            json!({"restartPolicy": "Always"}),
            "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
        ),
        (
            spec,
            json!({"initContainers": [{"name": "web", "image": "a"}]}),
            "spec.initContainers[0].name: Duplicate value: \"web\"",
        ),
        (
            spec,
            json!({"initContainers": [{"name": "a", "image": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            spec,
            json!({"initContainers": [{"name": "a", "image": "a", "restartPolicy": "Never"}]}),
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            container,
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}),
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            container,
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
    ]);
}

#[test]
fn ports_are_numbers_in_range_with_names_of_their_own() {
    check(vec![
        (container, json!({"ports": [{}]}), "spec.containers[0].ports[0].containerPort: Required value"),
        (
            container,
            json!({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "hostPort": -1}]}),
            "spec.containers[0].ports[0].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "name": "sixteen-letters-"}]}),
            "[spec.containers[0].ports[0].name: Invalid value: \"sixteen-letters-\": must be no more than 15 bytes, …",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5, "protocol": "UDP"}]}),
            "[]",
        ),
        (
            container,
            json!({"ports": [{"containerPort": 1, "protocol": "tcp"}]}),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            spec,
            json!({"hostNetwork": true, "containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 80, "hostPort": 81}]}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 80: must match `hostPort` when `hostNetwork` is true",
        ),
    ]);
}

#[test]
fn the_environment_has_names_and_one_source_each() {
    let reference = |from: Value| json!({"env": [{"name": "A", "valueFrom": from}]});
    check(vec![
        (container, json!({"env": [{"value": "x"}]}), "spec.containers[0].env[0].name: Required value"),
        (
            container,
            json!({"env": [{"name": "A=B"}]}),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            container,
            json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            container,
            reference(json!({})),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        (
            container,
            reference(json!({"fieldRef": {"fieldPath": "metadata.name"}, "resourceFieldRef": {"resource": "limits.cpu"}})),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
        ),
        (container, reference(json!({"fieldRef": {}})), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Required value"),
        (
            container,
            reference(json!({"fieldRef": {"fieldPath": "spec.color"}})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.color\": supported values: \"metadata.name\", …",
        ),
        (
            container,
            reference(json!({"resourceFieldRef": {"resource": "cpu"}})),
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"cpu\": supported values: \"limits.cpu\", …",
        ),
        (
            container,
            reference(json!({"secretKeyRef": {"name": "s"}})),
            "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
        ),
        (
            container,
            json!({"envFrom": [{}]}),
            "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (container, json!({"envFrom": [{"secretRef": {}}]}), "spec.containers[0].envFrom[0].secretRef.name: Required value"),
    ]);
}

#[test]
fn mounts_name_volumes_and_volumes_have_one_source() {
    check(vec![
        (
            container,
            json!({"volumeMounts": [{"name": "none", "mountPath": "/a"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"none\"",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v"}], "containers": [{"name": "a", "image": "a", "volumeMounts":
                [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}, {"name": "v"}, {"name": "v", "mountPath": "/b", "subPath": "../x"}]}]}),
            "[spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique, \
             spec.containers[0].volumeMounts[2].mountPath: Required value, \
             spec.containers[0].volumeMounts[3].subPath: Invalid value: \"../x\": must not contain '..']",
        ),
        (spec, json!({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name: Duplicate value: \"v\""),
        (spec, json!({"volumes": [{"emptyDir": {}}]}), "spec.volumes[0].name: Required value"),
        (
            spec,
            json!({"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}),
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "big"}}]}),
            "spec.volumes[0].emptyDir.sizeLimit: Invalid value: \"big\": quantities must match …",
        ),
        (spec, json!({"volumes": [{"name": "v", "secret": {}}]}), "spec.volumes[0].secret.secretName: Required value"),
        (spec, json!({"volumes": [{"name": "v", "configMap": {}}]}), "spec.volumes[0].configMap.name: Required value"),
        (
            spec,
            json!({"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 512, "items": [{"key": "k", "path": "/x"}]}}]}),
            "[spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive, \
             spec.volumes[0].configMap.items[0].path: Invalid value: \"/x\": must be a relative path]",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "Odd"}}]}),
            "spec.volumes[0].hostPath.type: Unsupported value: \"Odd\": supported values: \"BlockDevice\", …",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "projected": {"sources": [{}]}}]}),
            "spec.volumes[0].projected.sources[0]: Required value: must specify at least one volume type per source",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "a"}]}}]}),
            "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required",
        ),
        (
            spec,
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {}}]}),
            "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
        ),
    ]);
}

#[test]
fn resources_are_quantities_and_limits_are_limits() {
    let resources = |value: Value| json!({"resources": value});
    check(vec![
        (
            container,
            resources(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            container,
            resources(json!({"requests": {"cpu": "-1"}})),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            container,
            resources(json!({"requests": {"memory": "lots"}})),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"lots\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            container,
            resources(json!({"requests": {"cores": "1"}})),
            "[spec.containers[0].resources.requests[cores]: Invalid value: \"cores\": must be a standard resource type or fully qualified, …",
        ),
        (
            container,
            resources(json!({"requests": {"example.com/led": 1}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            container,
            resources(json!({"limits": {"example.com/led": 2}, "requests": {"example.com/led": 1}})),
            "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/led limit of 2",
        ),
        (
            container,
            resources(json!({"limits": {"example.com/led": "500m"}})),
            "[spec.containers[0].resources.limits[example.com/led]: Invalid value: \"500m\": must be an integer, …",
        ),
    ]);
}

#[test]
fn probes_and_hooks_do_one_thing() {
    check(vec![
        (
            container,
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            container,
            json!({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}),
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (container, json!({"livenessProbe": {"exec": {}}}), "spec.containers[0].livenessProbe.exec.command: Required value"),
        (
            container,
            json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            container,
            json!({"startupProbe": {"tcpSocket": {"port": 0}}}),
            "spec.containers[0].startupProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            container,
            json!({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}}),
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
        ),
        (
            container,
            json!({"readinessProbe": {"tcpSocket": {"port": 1}, "initialDelaySeconds": -1}}),
            "spec.containers[0].readinessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            container,
            json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}}),
            "spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
        ),
        (
            container,
            json!({"lifecycle": {"postStart": {}}}),
            "spec.containers[0].lifecycle.postStart: Required value: must specify a handler type",
        ),
    ]);
}

#[test]
fn the_pod_itself_is_judged() {
    check(vec![
        (
            spec,
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            spec,
            json!({"dnsPolicy": "Odd"}),
            "spec.dnsPolicy: Unsupported value: \"Odd\": supported values: \"ClusterFirst\", \"ClusterFirstWithHostNet\", \"Default\", \"None\"",
        ),
        (spec, json!({"dnsPolicy": "None"}), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
        (
            spec,
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            spec,
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            spec,
            json!({"nodeName": "Pi_1"}),
            "spec.nodeName: Invalid value: \"Pi_1\": a lowercase RFC 1123 subdomain must consist of …",
        ),
        (spec, json!({"hostname": "a.b"}), "spec.hostname: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of …"),
        (spec, json!({"nodeSelector": {"a": "b c"}}), "spec.nodeSelector: Invalid value: \"b c\": a valid label must be …"),
        (
            spec,
            json!({"tolerations": [{"value": "x"}]}),
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        (
            spec,
            json!({"tolerations": [{"key": "a", "tolerationSeconds": 1}]}),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            spec,
            json!({"tolerations": [{"key": "a", "operator": "Like"}]}),
            "spec.tolerations[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            spec,
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            spec,
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
        ),
        (
            spec,
            json!({"topologySpreadConstraints": [{"topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
    ]);
}

#[test]
fn all_faults_are_told_at_once() {
    let text = with(|spec| *spec = json!({"containers": [{"ports": [{}]}], "restartPolicy": "x", "nodeName": "X"}));
    assert_eq!(text.matches("Required value").count(), 3, "{text}");
    assert!(text.contains("spec.restartPolicy: Unsupported value") && text.contains("spec.nodeName: Invalid value"), "{text}");
}

#[test]
fn of_a_pod_only_little_may_change() {
    /// The spec before, after, and what is said of it.
    type Change = (fn(&mut Value), fn(&mut Value), &'static str);
    let change = |before: fn(&mut Value), after: fn(&mut Value)| sentence(&update_errors(&pod(before), &pod(after)));
    let table: Vec<Change> = vec![
        (|_| (), |_| (), "[]"),
        (
            |_| (),
            |spec| spec["containers"][0]["image"] = json!("nginx:1"),
            "spec: Forbidden: pod updates may not change fields other than …",
        ),
        (
            |spec| spec["containers"][0]["imagePullPolicy"] = json!("Always"),
            |spec| {
                spec["containers"][0]["imagePullPolicy"] = json!("Always");
                spec["containers"][0]["image"] = json!("nginx:1");
            },
            "[]",
        ),
        (|_| (), |spec| spec["nodeName"] = json!("pi-1"), "[]"),
        (|spec| spec["nodeName"] = json!("pi-1"), |spec| spec["nodeName"] = json!("pi-2"), "spec: Forbidden: …"),
        (|spec| spec["nodeName"] = json!("pi-1"), |_| (), "spec: Forbidden: …"),
        (|_| (), |spec| spec["activeDeadlineSeconds"] = json!(5), "[]"),
        (|spec| spec["activeDeadlineSeconds"] = json!(5), |spec| spec["activeDeadlineSeconds"] = json!(4), "[]"),
        (
            |spec| spec["activeDeadlineSeconds"] = json!(4),
            |spec| spec["activeDeadlineSeconds"] = json!(5),
            "spec.activeDeadlineSeconds: Invalid value: 5: must be less than or equal to previous value",
        ),
        (
            |spec| spec["activeDeadlineSeconds"] = json!(4),
            |_| (),
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ),
        (|_| (), |spec| spec["tolerations"] = json!([{"operator": "Exists"}]), "[]"),
        (
            |spec| spec["tolerations"] = json!([{"key": "a", "effect": "NoExecute", "tolerationSeconds": 1}]),
            |spec| {
                spec["tolerations"] =
                    json!([{"key": "a", "effect": "NoExecute", "tolerationSeconds": 9}, {"operator": "Exists"}]);
            },
            "[]",
        ),
        (
            |spec| spec["tolerations"] = json!([{"operator": "Exists"}]),
            |_| (),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (|spec| spec["terminationGracePeriodSeconds"] = json!(-5), |spec| spec["terminationGracePeriodSeconds"] = json!(1), "[]"),
        (|_| (), |spec| spec["terminationGracePeriodSeconds"] = json!(1), "spec: Forbidden: …"),
        (|spec| spec["schedulingGates"] = json!([{"name": "a/b"}]), |_| (), "[]"),
        (|_| (), |spec| spec["schedulingGates"] = json!([{"name": "a/b"}]), "spec: Forbidden: …"),
        (
            |_| (),
            |spec| spec["containers"] = json!([{"name": "web", "image": "nginx"}, {"name": "b", "image": "b"}]),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
    ];
    for (row, (before, after, words)) in table.into_iter().enumerate() {
        let text = change(before, after);
        match words.strip_suffix('…') {
            Some(head) => assert!(text.starts_with(head), "row {row}: {text}"),
            None => assert_eq!(text, words, "row {row}"),
        }
    }
    let text = change(|_| (), |spec| spec["containers"][0]["args"] = json!(["x"]));
    assert!(text.ends_with("\nchanged: spec.containers"), "{text}");
}

#[test]
fn a_host_ports_address_is_an_address() {
    let port = |ip: &str| json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]});
    check(vec![
        (container, port(""), "[]"),
        (container, port("127.0.0.1"), "[]"),
        (container, port("fd00::1"), "[]"),
        (
            container,
            port("localhost"),
            "spec.containers[0].ports[0].hostIP: Invalid value: \"localhost\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ]);
}

#[test]
fn a_resource_is_told_in_units() {
    let told = |resource: &str, divisor: Value| json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}]});
    for (resource, divisors) in [
        ("limits.cpu", &["1", "1m", "1000m", "0"][..]),
        ("requests.memory", &["1", "1k", "1M", "1G", "1E", "1Ki", "1024Ki", "1Gi", "1Ei", "0"]),
        ("limits.ephemeral-storage", &["1Mi"]),
        ("limits.hugepages-2Mi", &["1Mi"]),
    ] {
        for divisor in divisors {
            assert_eq!(container(&told(resource, json!(divisor))), "[]", "{resource} {divisor}");
        }
    }
    let path = "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value";
    let sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    for (resource, divisor, words) in [
        (
            "limits.cpu",
            json!("3m"),
            "\"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        ),
        ("limits.cpu", json!(2), "\"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource".to_owned()),
        (
            "limits.memory",
            json!("1024"),
            format!("\"limits.memory\": only divisor's values {sizes} are supported with the memory resource"),
        ),
        (
            "requests.ephemeral-storage",
            json!("2Mi"),
            format!(
                "\"requests.ephemeral-storage\": only divisor's values {sizes} are supported with the local ephemeral storage resource"
            ),
        ),
        (
            "limits.hugepages-2Mi",
            json!("1m"),
            format!("\"limits.hugepages-2Mi\": only divisor's values {sizes} are supported with the hugepages resource"),
        ),
    ] {
        assert_eq!(container(&told(resource, divisor)), format!("{path}: {words}"));
    }
    assert!(container(&told("limits.cpu", json!("much"))).contains("quantities must match"));
}

#[test]
fn huge_pages_come_with_cpu_or_memory_and_whole() {
    let resources = |resources: Value| json!({"resources": resources});
    check(vec![
        (container, resources(json!({"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}})), "[]"),
        (container, resources(json!({"limits": {"hugepages-2Mi": "4Mi"}, "requests": {"memory": "1Mi"}})), "[]"),
        (
            container,
            resources(json!({"limits": {"hugepages-2Mi": "4Mi"}})),
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ),
        (
            container,
            resources(json!({"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}, "requests": {"hugepages-2Mi": "2Mi"}})),
            "spec.containers[0].resources.requests: Invalid value: \"2Mi\": must be equal to hugepages-2Mi limit of 4Mi",
        ),
    ]);
}

#[test]
fn a_pod_of_another_system_has_nothing_of_this_one() {
    check(vec![
        (spec, json!({"os": {"name": "linux"}, "securityContext": {"runAsUser": 7}}), "[]"),
        (spec, json!({"os": {"name": "windows"}, "hostNetwork": false, "securityContext": {"windowsOptions": {}}}), "[]"),
        (spec, json!({"os": {}}), "spec.os.name: Required value: cannot be empty"),
        (
            spec,
            json!({"os": {"name": "plan9"}}),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
        (
            spec,
            json!({"os": {"name": "windows"}, "securityContext": {"runAsUser": 7}}),
            "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
        ),
        (spec, json!({"os": {"name": "windows"}, "hostPID": true}), "spec.hostPID: Forbidden: cannot be set for a windows pod"),
        (
            spec,
            json!({"os": {"name": "windows"}, "shareProcessNamespace": false}),
            "spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
        ),
        (
            spec,
            json!({"os": {"name": "windows"}, "containers": [{"name": "a", "image": "i", "securityContext": {"privileged": false}}]}),
            "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
        ),
        (
            spec,
            json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
    ]);
}

#[test]
fn only_a_claim_is_a_raw_device() {
    let device = |volume: Value| {
        with(|spec| {
            spec["volumes"] = json!([volume]);
            spec["containers"][0]["volumeDevices"] = json!([{"name": "v", "devicePath": "/dev/xvda"}]);
        })
    };
    assert_eq!(device(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}})), "[]");
    let words = "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
    assert_eq!(device(json!({"name": "v", "emptyDir": {}})), words);
}
