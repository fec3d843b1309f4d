//! The life of pods in Docker.

use bramble::agent::node::Input;
use bramble::agent::past;
use serde_json::{Value, json};

use crate::support::{Agent, Cluster, container_id, deleted, docker, engine_word, is_ready, pod, share, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn two_containers_share_localhost_and_a_volume_and_leave_nothing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut pair = pod(
        "pair",
        &[
            ("server", "echo from-the-server > /shared/greeting; exec nc -ll -p 8080 -e cat /shared/greeting"),
            (
                "client",
                "while [ ! -s /shared/answer ]; do nc 127.0.0.1 8080 > /tmp/a 2>/dev/null && cat /tmp/a > /shared/answer; sleep 0.2; done; sleep 1000",
            ),
        ],
    );
    pair["spec"]["volumes"] = json!([{"name": "shared", "emptyDir": {}}]);
    for container in pair["spec"]["containers"].as_array_mut().unwrap() {
        container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    }
    agent.want(share(std::slice::from_ref(&pair))).await;
    let status = agent.until_ready("pair").await;
    assert_eq!(status["phase"], "Running");
    assert!(status["podIP"].as_str().is_some_and(|ip| ip.starts_with("1")), "{status:#}");
    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut answer = String::new();
    for _ in 0..100 {
        answer = docker(&["exec", &id, "/bin/sh", "-c", "cat /shared/answer 2>/dev/null || true"]);
        if !answer.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(answer, "from-the-server");
    assert_eq!(docker(&["exec", &id, "/bin/sh", "-c", "stat -c %a /shared"]), "777");
    assert_eq!(docker(&["exec", &id, "/bin/hostname"]), "pair");
    assert!(is_ready(&agent.status("pair")));

    agent.want(share(&[deleted(pair)])).await;
    agent.until_gone("pair").await;
    assert_eq!(agent.report("pair").unwrap().status["phase"], "Failed", "killed after its grace");
    agent.want(share(&[])).await;
    use bramble::agent::runtime::Runtime;
    agent.runtime.teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_comes_back_and_a_new_agent_adopts_it() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let web = pod("web", &[("app", "exec sleep 1000")]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let first = agent.until_ready("web").await;
    let id = first["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    docker(&["kill", &id]);
    let second =
        agent.until("web", "restarted", |status| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(second["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(second["containerStatuses"][0]["lastState"]["terminated"]["containerID"], format!("{}://{id}", engine_word()));

    // The agent ends as by kill -9; the next one finds all as it was.
    let list = ["ps", "-q", "--no-trunc", "--filter"];
    let filter = format!("label=bramble/cluster={}", cluster.uid);
    let running = docker(&[&list[..], &[filter.as_str()]].concat());
    agent.kill().await;
    let agent = Agent::start(&cluster);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(docker(&[&list[..], &[filter.as_str()]].concat()), running, "nothing is removed before a share came");
    agent.want(share(std::slice::from_ref(&web))).await;
    let mut third = agent.until_ready("web").await;
    // The first agent saw things happen, the second reads when they did: of a condition they may tell seconds apart that an engine took to show it.
    let at = |condition: &Value| bramble::api::time::parse(condition["lastTransitionTime"].as_str().unwrap()).unwrap().0;
    let told = second["conditions"].as_array().unwrap();
    for (condition, before) in third["conditions"].as_array_mut().unwrap().iter_mut().zip(told) {
        assert!(at(condition).abs_diff(at(before)) <= 5000, "{condition} {before}");
        condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
    }
    assert_eq!(third, second);
    assert_eq!(docker(&[&list[..], &[filter.as_str()]].concat()), running);

    // What is no longer in the share goes.
    agent.want(share(&[])).await;
    for _ in 0..200 {
        if docker(&["ps", "-aq", "--filter", &filter]).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_secrets_and_memory_appear_as_files_with_their_modes() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("files", &[("app", "exec sleep 1000")]);
    web["spec"]["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "c", "items": [{"key": "k", "path": "deep/file", "mode": 0o640}]}},
        {"name": "key", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]);
    web["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "conf", "mountPath": "/conf"}, {"name": "key", "mountPath": "/key"}, {"name": "ram", "mountPath": "/ram"},
    ]);
    web["spec"]["containers"][0]["env"] = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    let mut share = share(std::slice::from_ref(&web));
    let object = |value| std::sync::Arc::new(bramble::api::Object::from_value(value).unwrap());
    share.config_maps.insert("default/c".into(), object(json!({"data": {"k": "from-the-map"}})));
    share.secrets.insert("default/s".into(), object(json!({"data": {"p": "aHVudGVyMg=="}})));
    agent.want(share).await;
    let status = agent.until_ready("files").await;
    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let shell = |script: &str| docker(&["exec", &id, "/bin/sh", "-c", script]);
    assert_eq!(shell("cat /conf/deep/file; echo; stat -L -c %a /conf/deep/file"), "from-the-map\n640");
    assert_eq!(shell("cat /key/p; echo; stat -L -c %a /key/p"), "hunter2\n400");
    assert!(shell("mount").lines().any(|line| line.contains(" /key ") && line.contains("(ro,")), "nobody writes there");
    assert!(shell("mount").lines().any(|line| line.contains(" /ram ") && line.contains("size=1024k")));
    assert_eq!(shell("stat -c %a /ram"), "777");
    assert_eq!(shell("echo $IP"), status["podIP"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_start_says_why_in_dockers_words() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("wrong", &[("app", "")]);
    web["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    agent.want(share(&[web])).await;
    let status = agent
        .until("wrong", "CrashLoopBackOff", |status| {
            status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "StartError");
    assert!(last["message"].as_str().unwrap().contains("/no/such/program"), "{last}");
    assert!(agent.reasons().iter().any(|reason| reason == "Failed"));
}

fn over(status: &Value) -> bool {
    status["phase"] == "Failed" || status["phase"] == "Succeeded"
}

/// The agent dies; the next one finds on its disk what that one wrote down.
async fn replaced(agent: Agent, cluster: &Cluster, meanwhile: impl FnOnce()) -> Agent {
    let kept = past::encode(&agent.past());
    agent.kill().await;
    meanwhile();
    let agent = Agent::start(cluster);
    agent.input(Input::Past(past::decode(&kept).unwrap())).await;
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_removed_while_no_agent_was_there_is_not_run_again() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let with_policy = |name: &str, policy: &str, script: &str| {
        let mut pod = pod(name, &[("app", script)]);
        pod["spec"]["restartPolicy"] = json!(policy);
        pod
    };
    let pods = [
        with_policy("once", "Never", "exec sleep 1000"),
        with_policy("done", "OnFailure", "exit 0"),
        with_policy("again", "OnFailure", "exec sleep 1000"),
    ];
    agent.want(share(&pods)).await;
    let mut ids = Vec::new();
    for name in ["once", "again"] {
        ids.push(container_id(&agent.until_ready(name).await, 0));
    }
    ids.push(container_id(&agent.until("done", "done", over).await, 0));
    let agent = replaced(agent, &cluster, || ids.iter().for_each(|id| drop(docker(&["rm", "-f", id])))).await;
    agent.want(share(&pods)).await;
    let once = agent.until("once", "over", over).await;
    let end = &once["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&once["phase"], &end["reason"], &end["exitCode"]),
        (&json!("Failed"), &json!("ContainerStatusUnknown"), &json!(137))
    );
    assert_eq!(once["containerStatuses"][0]["containerID"], format!("{}://{}", engine_word(), ids[0]));
    let done = agent.until("done", "over", over).await;
    let end = &done["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&done["phase"], &end["reason"], &end["exitCode"]), (&json!("Succeeded"), &json!("Completed"), &json!(0)));
    assert_ne!(container_id(&agent.until_ready("again").await, 0), ids[1], "it had not ended well");
    for name in ["once", "done"] {
        let started = agent.events().iter().any(|event| event.name == name && event.reason == "Started");
        assert!(!started, "{name}");
    }
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_outlives_the_agent_that_began_it() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    // It does not hear TERM.
    let web = pod("web", &[("app", "trap '' TERM; while :; do sleep 0.1; done")]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let id = container_id(&agent.until_ready("web").await, 0);
    let (reason, message) = ("Evicted".to_owned(), "The node was low on resource: memory.".to_owned());
    let grace = std::time::Duration::from_secs(5);
    agent.input(Input::Fail { uid: "uid-web".into(), reason, message: message.clone(), grace, condition: None }).await;
    agent.until("web", "it was told to end", |_| agent.reasons().iter().any(|reason| reason == "Killing")).await;
    let agent = replaced(agent, &cluster, || {}).await;
    agent.want(share(std::slice::from_ref(&web))).await;
    let status = agent.until("web", "over", over).await;
    assert_eq!((&status["phase"], &status["reason"], &status["message"]), (&json!("Failed"), &json!("Evicted"), &json!(message)));
    assert_eq!(container_id(&status, 0), id, "it is the one that ran");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_variable_comes_from_is_waited_for_unless_it_is_optional() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let from = |name: &str, env: Value| {
        let mut pod = pod(name, &[("app", "exec sleep 1000")]);
        pod["spec"]["containers"][0].as_object_mut().unwrap().extend(env.as_object().unwrap().clone());
        pod
    };
    let object = |value| std::sync::Arc::new(bramble::api::Object::from_value(value).unwrap());
    for (name, env, words) in [
        (
            "map-key",
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}),
            "configmap \"c\" not found",
        ),
        (
            "secret-key",
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}}]}),
            "secret \"c\" not found",
        ),
        ("map", json!({"envFrom": [{"configMapRef": {"name": "c"}}]}), "configmap \"c\" not found"),
        ("secret", json!({"envFrom": [{"secretRef": {"name": "c"}}]}), "secret \"c\" not found"),
    ] {
        let web = from(name, env);
        agent.want(share(std::slice::from_ref(&web))).await;
        let waits = |status: &Value| {
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == words
        };
        agent.until(name, words, waits).await;
        let mut full = share(std::slice::from_ref(&web));
        full.config_maps.insert("default/c".into(), object(json!({"data": {"k": "v"}})));
        full.secrets.insert("default/c".into(), object(json!({"data": {"k": "dg=="}})));
        agent.want(full).await;
        let status = agent.until_ready(name).await;
        assert_eq!(crate::support::shell(&status, 0, "echo $A$k"), "v");
    }
    let mut optional = from(
        "optional",
        json!({
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": true}}}],
            "envFrom": [{"secretRef": {"name": "c", "optional": true}}],
        }),
    );
    optional["spec"]["volumes"] = json!([
        {"name": "map", "configMap": {"name": "c", "optional": true}},
        {"name": "secret", "secret": {"secretName": "c", "optional": true}},
    ]);
    optional["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"}]);
    agent.want(share(std::slice::from_ref(&optional))).await;
    let status = agent.until_ready("optional").await;
    assert_eq!(crate::support::shell(&status, 0, "echo -$A-; ls /map /secret"), "--\n/map:\n\n/secret:");
    // What comes later appears in the files; variables are of the container's start.
    let mut full = share(&[optional]);
    full.config_maps.insert("default/c".into(), object(json!({"data": {"k": "later"}})));
    agent.want(full).await;
    agent.until("optional", "the file is there", |_| crate::support::shell(&status, 0, "cat /map/k || true") == "later").await;
    assert_eq!(crate::support::shell(&status, 0, "echo -$A-"), "--");
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_deleted_in_whatever_it_is_doing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    const DEAF: &str = "trap : TERM; while :; do sleep 0.1; done";
    let mut in_init = pod("in-init", &[("app", "exec sleep 1000")]);
    in_init["spec"]["initContainers"] =
        json!([{"name": "init", "image": crate::support::BUSYBOX, "command": ["/bin/sh", "-c", DEAF]}]);
    let mut in_hook = pod("in-hook", &[("app", DEAF), ("next", DEAF)]);
    in_hook["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/sh", "-c", "sleep 1000"]}}});
    let in_back_off = pod("in-back-off", &[("app", "exit 3")]);
    let mut waiting = pod("waiting", &[("app", DEAF)]);
    waiting["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "none"}}]);
    let pods = [in_init, in_hook, in_back_off, waiting];
    agent.want(share(&pods)).await;
    let shown = |list: &'static str, at: &'static str, key: &'static str| {
        move |status: &Value| !status[list][0]["state"][at][key].is_null()
    };
    agent.until("in-init", "its init container runs", shown("initContainerStatuses", "running", "startedAt")).await;
    let hook_runs = |_: &Value| agent.events().iter().any(|event| event.name == "in-hook" && event.reason == "Started");
    agent.until("in-hook", "its hook runs", hook_runs).await;
    let loops = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    agent.until("in-back-off", "CrashLoopBackOff", loops).await;
    let unset = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    agent.until("waiting", "CreateContainerConfigError", unset).await;
    agent.want(share(&pods.map(deleted))).await;
    for name in ["in-init", "in-hook", "in-back-off", "waiting"] {
        agent.until_gone(name).await;
        assert_eq!(agent.status(name)["phase"], "Failed", "{name}: {:#}", agent.status(name));
    }
    let filter = format!("label=bramble/cluster={}", cluster.uid);
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]), "");
    assert!(!agent.events().iter().any(|event| event.field_path.contains("next")), "nothing is begun after the hook");
    agent.kill().await;
}
