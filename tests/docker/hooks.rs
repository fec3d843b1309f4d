//! hooks, ends, sidecars and last words, on real Docker.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::Kind;
use crate::support::{Agent, BUSYBOX, Cluster, deleted, docker, is_ready, pod, share, skipped};

/// Mounts a directory of this machine at `/out` in all containers, so that what they write outlives them.
fn with_out(mut pod: Value, out: &Path) -> Value {
    pod["spec"]["volumes"] = json!([{"name": "out", "hostPath": {"path": out}}]);
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        }
    }
    pod
}

/// Writes `NAME-start`, and `NAME-end` when it hears TERM.
fn diary(name: &str) -> String {
    format!("trap 'echo {name}-end >> /out/log; exit 0' TERM; echo {name}-start >> /out/log; while :; do sleep 0.1; done")
}

fn lines(out: &Path) -> Vec<String> {
    std::fs::read_to_string(out.join("log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn deleted_within(pod: Value, grace: u64) -> Value {
    let mut pod = deleted(pod);
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    pod
}

fn never(mut pod: Value) -> Value {
    pod["spec"]["restartPolicy"] = json!("Never");
    pod
}

fn ended(status: &Value) -> bool {
    status["phase"] == "Failed" || status["phase"] == "Succeeded"
}

/// What a container ended with, by its name.
fn terminated<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = all.iter().flat_map(|list| status[list].as_array().into_iter().flatten());
    &statuses.find(|status| status["name"] == name).unwrap()["state"]["terminated"]
}

fn container_id(status: &Value, name: &str) -> String {
    let mut statuses = status["containerStatuses"].as_array().unwrap().iter();
    let status = statuses.find(|status| status["name"] == name).unwrap();
    status["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn post_start_comes_before_the_next_container_and_pre_stop_before_term() {
    if skipped() {
        return;
    }
    let (cluster, out) = (Cluster::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&cluster);
    let mut pair = pod("pair", &[("first", &diary("first")), ("second", &diary("second"))]);
    let exec = |script: &str| json!({"exec": {"command": ["/bin/sh", "-c", script]}});
    pair["spec"]["containers"][0]["lifecycle"] =
        json!({"postStart": exec("sleep 1; echo hooked >> /out/log"), "preStop": exec("echo stopping >> /out/log; sleep 1")});
    pair["spec"]["containers"][1]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    let pair = with_out(pair, out.path());
    agent.want(share(std::slice::from_ref(&pair))).await;
    agent.until_ready("pair").await;
    agent.until("pair", "the second has written", |_| lines(out.path()).len() == 3).await;
    assert_eq!(lines(out.path()), ["first-start", "hooked", "second-start"]);
    let begun = Instant::now();
    agent.want(share(&[deleted_within(pair, 60)])).await;
    agent.until_gone("pair").await;
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    // Both hooks begin at once: which container ends first is nobody's promise.
    let told = lines(out.path())[3..].to_vec();
    let at = |line: &str| told.iter().position(|told| told == line).unwrap_or_else(|| panic!("{line} in {told:?}"));
    assert!(told.len() == 3 && at("stopping") < at("first-end") && at("second-end") < 3, "{told:?}");
    agent.kill().await;
}

/// Answers every request with `status` and writes down what was asked, one line a request.
fn http_server(status: &str) -> String {
    format!(
        "cat > /tmp/answer <<'END'
while read line; do line=${{line%?}}; [ -z \"$line\" ] && break; all=\"$all$line|\"; done
echo \"$all\" >> /out/log
printf 'HTTP/1.0 {status}\\r\\nContent-Length: 0\\r\\n\\r\\n'
END
exec nc -ll -p 8080 -e /bin/sh /tmp/answer"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_by_http_ask_a_real_server_of_the_pod() {
    if skipped() {
        return;
    }
    let (cluster, out) = (Cluster::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "exec sleep 1000")]);
    web["spec"]["initContainers"] = json!([{
        "name": "server", "image": BUSYBOX, "restartPolicy": "Always",
        // What a hook is answered with does not matter, as long as it is answered.
        "command": ["/bin/sh", "-c", http_server("503 Busy")],
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
    }]);
    web["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": 8080}]);
    let get = |path: &str| json!({"httpGet": {"port": "web", "path": path, "httpHeaders": [{"name": "X-Hook", "value": "yes"}]}});
    web["spec"]["containers"][0]["lifecycle"] = json!({"postStart": get("/begun"), "preStop": get("/ends")});
    let web = with_out(web, out.path());
    agent.want(share(std::slice::from_ref(&web))).await;
    agent.until_ready("web").await;
    let asked = |path: &str| lines(out.path()).into_iter().find(|line| line.starts_with(&format!("GET {path} HTTP/1.1|")));
    let begun = asked("/begun").unwrap_or_else(|| panic!("{:?}", lines(out.path())));
    assert!(begun.to_lowercase().contains("|x-hook: yes|"), "{begun}");
    assert_eq!(asked("/ends"), None);
    agent.want(share(&[deleted_within(web, 20)])).await;
    agent.until_gone("web").await;
    assert!(asked("/ends").is_some(), "{:?}", lines(out.path()));
    assert!(!agent.reasons().iter().any(|reason| reason.contains("Hook")), "{:?}", agent.events());

    // Nobody answers: the hook has failed, and what it was for ends.
    let mut deaf = never(pod("deaf", &[("app", "exec sleep 1000")]));
    deaf["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"httpGet": {"port": 9, "path": "/"}}});
    agent.want(share(&[deaf])).await;
    let status = agent.until("deaf", "failed", ended).await;
    assert_eq!((&status["phase"], &terminated(&status, "app")["exitCode"]), (&json!("Failed"), &json!(137)));
    assert!(agent.reasons().iter().any(|reason| reason == "FailedPostStartHook"));
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_said_and_costs_the_container_its_life() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "trap 'exit 0' TERM; while :; do sleep 0.1; done")]);
    // A hook that is merely late is another story.
    web["spec"]["terminationGracePeriodSeconds"] = json!(30);
    web["spec"]["containers"][0]["lifecycle"] = json!({
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo its-secret; exit 7"]}},
        "preStop": {"exec": {"command": ["/bin/none"]}},
    });
    agent.want(share(std::slice::from_ref(&web))).await;
    let restarted = |status: &Value| status["containerStatuses"][0]["restartCount"].as_u64() >= Some(1);
    let status = agent.until("web", "restarted", restarted).await;
    assert!(!is_ready(&status));
    let reasons = agent.reasons();
    for reason in ["FailedPostStartHook", "FailedPreStopHook", "Killing"] {
        assert!(reasons.iter().any(|said| said == reason), "{reason} in {reasons:?}");
    }
    assert!(!format!("{:?}", agent.events()).contains("its-secret"));
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_begin_before_the_others_and_end_after_them_in_reverse_order() {
    if skipped() {
        return;
    }
    let (cluster, out) = (Cluster::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("main", &diary("main"))]);
    let sidecar = |name: &str| json!({"name": name, "image": BUSYBOX, "restartPolicy": "Always", "command": ["/bin/sh", "-c", diary(name)]});
    web["spec"]["initContainers"] = json!([
        sidecar("one"),
        {"name": "init", "image": BUSYBOX, "command": ["/bin/sh", "-c", "echo init >> /out/log"]},
        sidecar("two"),
    ]);
    let web = with_out(web, out.path());
    agent.want(share(std::slice::from_ref(&web))).await;
    agent.until_ready("web").await;
    agent.until("web", "all have written", |_| lines(out.path()).len() == 4).await;
    assert_eq!(lines(out.path()), ["one-start", "init", "two-start", "main-start"]);
    agent.want(share(&[deleted_within(web, 20)])).await;
    agent.until_gone("web").await;
    assert_eq!(lines(out.path())[4..], ["main-end", "two-end", "one-end"]);

    // A job's sidecar is stopped when the work is done.
    let mut job = never(pod("job", &[("main", "sleep 0.5")]));
    job["spec"]["terminationGracePeriodSeconds"] = json!(30);
    job["spec"]["initContainers"] = json!([sidecar("one")]);
    std::fs::remove_file(out.path().join("log")).unwrap();
    agent.want(share(&[with_out(job, out.path())])).await;
    agent.until("job", "done", |status| status["phase"] == "Succeeded").await;
    assert_eq!(lines(out.path()), ["one-start", "one-end"]);
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_hear_term_is_killed_at_the_deadline_and_not_before() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let deaf = never(pod("deaf", &[("app", "trap '' TERM; while :; do sleep 0.1; done")]));
    agent.want(share(std::slice::from_ref(&deaf))).await;
    agent.until_ready("deaf").await;
    let begun = Instant::now();
    agent.want(share(&[deleted_within(deaf, 3)])).await;
    agent.until_gone("deaf").await;
    assert!(begun.elapsed() >= Duration::from_secs(3) && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(terminated(&agent.status("deaf"), "app")["exitCode"], 137);
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_delete_shortens_the_grace_and_a_grace_of_nothing_is_a_kill_at_once() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let deaf = |name: &str| pod(name, &[("app", "trap : TERM; while :; do sleep 0.1; done")]);
    agent.want(share(&[deaf("slow"), deaf("quick")])).await;
    for name in ["slow", "quick"] {
        agent.until_ready(name).await;
    }
    let begun = Instant::now();
    agent.want(share(&[deleted_within(deaf("slow"), 600), deleted_within(deaf("quick"), 0)])).await;
    agent.until_gone("quick").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(!agent.report("slow").unwrap().gone);
    agent.want(share(&[deleted_within(deaf("slow"), 1)])).await;
    agent.until_gone("slow").await;
    let end = terminated(&agent.status("slow"), "app").clone();
    assert_eq!((&end["reason"], &end["exitCode"]), (&json!("Error"), &json!(137)));
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_container_joins_a_running_pod_and_sees_its_targets_processes() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "exec sleep 4321")]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let before = agent.until_ready("web").await;
    web["spec"]["ephemeralContainers"] = json!([{
        "name": "debug", "image": BUSYBOX, "targetContainerName": "app",
        "command": ["/bin/sh", "-c", "cat /proc/1/cmdline > /dev/termination-log; exit 4"],
    }]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let is_over = |status: &Value| status["ephemeralContainerStatuses"][0]["state"]["terminated"].is_object();
    let status = agent.until("web", "debugged", is_over).await;
    let debug = terminated(&status, "debug");
    assert_eq!(debug["exitCode"], 4);
    assert!(debug["message"].as_str().unwrap().contains("4321"), "{debug:#}");
    assert_eq!(status["containerStatuses"], before["containerStatuses"]);
    assert!(is_ready(&status));
    agent.want(share(&[deleted(web)])).await;
    agent.until_gone("web").await;
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_past_its_deadline_fails_also_when_the_agent_was_away() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut job = pod("job", &[("app", "exec sleep 1000")]);
    agent.want(share(std::slice::from_ref(&job))).await;
    agent.until_ready("job").await;
    agent.kill().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Only now, so that it is ready first however slow the engine is.
    job["spec"]["activeDeadlineSeconds"] = json!(3);
    let agent = Agent::start(&cluster);
    agent.want(share(std::slice::from_ref(&job))).await;
    let status = agent.until("job", "failed", ended).await;
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_come_from_the_file_else_from_the_log_of_one_that_failed() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut words = never(pod(
        "words",
        &[
            ("default", "echo -n bye > /dev/termination-log; exit 3"),
            ("own-path", "echo -n elsewhere > /tmp/words; exit 0"),
            ("from-log", "echo first; echo last; exit 1"),
            ("no-need", "echo all well"),
            ("file-first", "echo log; echo -n file > /dev/termination-log; exit 1"),
            ("long", "seq 1 2000 > /dev/termination-log; exit 1"),
            ("other-user", "echo -n me > /dev/termination-log; exit 1"),
        ],
    ));
    words["spec"]["containers"][1]["terminationMessagePath"] = json!("/tmp/words");
    for at in [2, 3, 4] {
        words["spec"]["containers"][at]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    }
    words["spec"]["containers"][6]["securityContext"] = json!({"runAsUser": 1234, "readOnlyRootFilesystem": true});
    agent.want(share(std::slice::from_ref(&words))).await;
    let status = agent.until("words", "ended", ended).await;
    for (name, message) in [
        ("default", json!("bye")),
        ("own-path", json!("elsewhere")),
        ("from-log", json!("first\nlast\n")),
        ("no-need", Value::Null),
        ("file-first", json!("file")),
        ("other-user", json!("me")),
    ] {
        assert_eq!(terminated(&status, name)["message"], message, "{name}");
    }
    let long = terminated(&status, "long")["message"].as_str().unwrap();
    assert_eq!(long.len(), 12 * 1024 / 7, "a seventh of what a pod may say");
    // The next agent reads the same.
    agent.kill().await;
    let agent = Agent::start(&cluster);
    agent.want(share(std::slice::from_ref(&words))).await;
    assert_eq!(agent.until("words", "known again", ended).await["containerStatuses"], status["containerStatuses"]);
    agent.want(share(&[deleted(words)])).await;
    agent.until_gone("words").await;
    assert_eq!(std::fs::read_dir(cluster.run.path().join("pods")).unwrap().count(), 0);
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_for_memory_is_named_and_a_childs_is_an_event() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    const EAT: &str = "x=aaaaaaaa; while :; do x=$x$x; done";
    let hungry = |name: &str, script: &str| {
        let mut pod = never(pod(name, &[("app", script)]));
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "12Mi"}});
        pod
    };
    let child = format!("sleep 1; /bin/sh -c '{EAT}'; echo went on; exec sleep 1000");
    let alone = if Kind::chosen().tells_of_kills_for_memory() { EAT.to_owned() } else { format!("sleep 2; {EAT}") };
    agent.want(share(&[hungry("alone", &alone), hungry("parent", &child)])).await;
    // Docker's word for it may come after the end.
    let named = |status: &Value| ended(status) && terminated(status, "app")["reason"] == "OOMKilled";
    let status = agent.until("alone", "OOMKilled", named).await;
    assert_eq!(terminated(&status, "app")["exitCode"], 137);
    agent
        .until("parent", "the event", |_| {
            agent.events().iter().any(|event| event.reason == "OOMKilling" && event.name == "parent")
        })
        .await;
    assert!(is_ready(&agent.status("parent")), "the container itself runs on");
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_that_fails_is_tried_again_or_fails_the_pod() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let with_init = |name: &str, script: &str| {
        let mut pod = pod(name, &[("app", "exec sleep 1000")]);
        pod["spec"]["initContainers"] = json!([{"name": "init", "image": BUSYBOX, "command": ["/bin/sh", "-c", script]}]);
        pod
    };
    agent.want(share(&[with_init("again", "exit 5"), never(with_init("once", "exit 5"))])).await;
    let status = agent.until("once", "failed", ended).await;
    assert_eq!((&status["phase"], &terminated(&status, "init")["exitCode"]), (&json!("Failed"), &json!(5)));
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    let loops = |status: &Value| {
        let init = &status["initContainerStatuses"][0];
        init["state"]["waiting"]["reason"] == "CrashLoopBackOff" && init["restartCount"].as_u64() >= Some(1)
    };
    let status = agent.until("again", "in its back-off", loops).await;
    assert_eq!(
        (&status["phase"], &status["initContainerStatuses"][0]["lastState"]["terminated"]["exitCode"]),
        (&json!("Pending"), &json!(5))
    );
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_a_person_removes_is_made_anew_once() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let (web, job) = (pod("web", &[("app", "exec sleep 1000")]), never(pod("job", &[("app", "exec sleep 1000")])));
    agent.want(share(&[web, job])).await;
    let ids = [container_id(&agent.until_ready("web").await, "app"), container_id(&agent.until_ready("job").await, "app")];
    docker(&["rm", "-f", &ids[0], &ids[1]]);
    let again = |status: &Value| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1;
    let status = agent.until("web", "made anew", again).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    let status = agent.until("job", "failed", ended).await;
    assert_eq!((&status["phase"], &terminated(&status, "app")["exitCode"]), (&json!("Failed"), &json!(137)));
    agent.kill().await;
}
