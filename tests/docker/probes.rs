//! liveness, readiness and startup probes, on real Docker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bramble::agent::pods::status::LightState;
use bramble::agent::runtime::{Executed, OUTPUT_LIMIT, Runtime};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::support::{Agent, Cluster, deleted, docker, is_ready, pod, share, skipped};

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

/// The runtime's id of a pod's only container.
fn id(status: &Value) -> String {
    status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_container_tells_its_code_and_its_words_and_ends_at_its_limit() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let asked = pod("asked", &[("app", "sleep 1000")]);
    agent.want(share(std::slice::from_ref(&asked))).await;
    let id = id(&agent.until_ready("asked").await);
    let second = Duration::from_secs(1);
    let exec = |command: &[&str], limit: Duration| {
        let (runtime, id, command) = (agent.runtime.clone(), id.clone(), words(command));
        async move { runtime.exec(&id, &command, limit).await }
    };

    let said = exec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], 20 * second).await.unwrap();
    assert_eq!(said.exit_code, Some(3));
    assert!(said.output.contains("out\n") && said.output.contains("err\n"), "{said:?}");

    let flood = exec(&["/bin/busybox", "dd", "if=/dev/zero", "bs=1024", "count=200"], 20 * second).await.unwrap();
    assert_eq!((flood.exit_code, flood.output.len()), (Some(0), OUTPUT_LIMIT));

    let missing = exec(&["/no/such"], 20 * second).await.unwrap();
    assert!(matches!(missing.exit_code, Some(126 | 127)), "{missing:?}");
    assert!(missing.output.contains("/no/such"), "{missing:?}");

    let begun = tokio::time::Instant::now();
    let late = exec(&["/bin/sh", "-c", "echo before; sleep 987; echo after"], 5 * second).await.unwrap();
    assert_eq!(late, Executed { exit_code: None, output: "before\n".to_owned() });
    assert!(begun.elapsed() < 18 * second, "{:?}", begun.elapsed());
    // Neither it nor its child is left.
    let mut left = String::new();
    for _ in 0..100 {
        // `docker top` of Podman 4.3 ends without an answer.
        left = docker(&["exec", &id, "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | /bin/busybox tr '\\0' ' '"]);
        if !left.contains("sleep 987") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!left.contains("sleep 987") && left.contains("sleep 1000"), "{left}");

    agent.runtime.exec("no-such-container", &words(&["true"]), second).await.unwrap_err();
    agent.want(share(&[deleted(asked)])).await;
    agent.until_gone("asked").await;
}

fn exec_probe(command: &[&str], failures: u32) -> Value {
    json!({"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": failures})
}

fn messages(agent: &Agent, reason: &str) -> Vec<String> {
    agent.events().into_iter().filter(|event| event.reason == reason).map(|event| event.message).collect()
}

fn is_unready(status: &Value) -> bool {
    status["phase"] == "Running" && !is_ready(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_what_http_tcp_and_a_file_say() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "mkdir -p /tmp/www; sleep 1; exec httpd -f -p 8080 -h /tmp/www"), ("file", "sleep 1000")]);
    let containers = &mut web["spec"]["containers"];
    containers[0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    containers[0]["readinessProbe"] =
        json!({"httpGet": {"path": "/ok?x=1", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1});
    containers[0]["livenessProbe"] = json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 2, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 20});
    containers[1]["readinessProbe"] = exec_probe(&["cat", "/tmp/ok"], 1);
    agent.want(share(std::slice::from_ref(&web))).await;
    let status = agent.until("web", "running and not ready", is_unready).await;
    assert_eq!(status["containerStatuses"][0]["started"], true);
    let ids: Vec<String> = (0..2)
        .map(|i| status["containerStatuses"][i]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    let shell = |id: &str, script: &str| docker(&["exec", id, "/bin/sh", "-c", script]);

    for words in ["HTTP probe failed with statuscode: 404", "cat: can't open '/tmp/ok'"] {
        let said = format!("Readiness probe failed: {words}");
        agent.until("web", &said, |_| messages(&agent, "Unhealthy").iter().any(|text| text.starts_with(&said))).await;
    }
    shell(&ids[0], "echo fine > /tmp/www/ok");
    let status = agent.until("web", "one of two ready", |status| status["containerStatuses"][0]["ready"] == true).await;
    assert_eq!(status["containerStatuses"][1]["ready"], false);
    let ready = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!(ready["message"], "containers with unready status: [file]");
    shell(&ids[1], "touch /tmp/ok");
    agent.until_ready("web").await;
    shell(&ids[1], "rm /tmp/ok");
    let status = agent.until("web", "not ready again", is_unready).await;
    assert_eq!(
        (&status["containerStatuses"][0]["restartCount"], &status["containerStatuses"][1]["restartCount"]),
        (&json!(0), &json!(0))
    );
    assert!(agent.lights().iter().all(|light| light.state == LightState::NotReady), "{:?}", agent.lights());
    agent.want(share(&[deleted(web)])).await;
    agent.until_gone("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_holds_liveness_back_and_liveness_kills_with_its_own_grace() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    // It hears no TERM, needs three seconds to start, and after its restart it is well again.
    let mut slow = pod("slow", &[("app", "trap '' TERM; sleep 3; touch /tmp/up; while true; do sleep 1; done")]);
    slow["spec"]["terminationGracePeriodSeconds"] = json!(600);
    slow["spec"]["containers"][0]["startupProbe"] = exec_probe(&["cat", "/tmp/up"], 60);
    slow["spec"]["containers"][0]["livenessProbe"] = exec_probe(&["cat", "/tmp/up"], 1);
    slow["spec"]["containers"][0]["livenessProbe"]["terminationGracePeriodSeconds"] = json!(1);
    agent.want(share(std::slice::from_ref(&slow))).await;
    let status = agent.until("slow", "running and not started", is_unready).await;
    assert_eq!(status["containerStatuses"][0]["started"], false);
    let status = agent.until_ready("slow").await;
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "liveness waited");
    assert!(messages(&agent, "Killing").is_empty());

    docker(&["exec", &id(&status), "/bin/sh", "-c", "rm /tmp/up"]);
    let status = agent
        .until("slow", "restarted and well", |status| status["containerStatuses"][0]["restartCount"] == 1 && is_ready(status));
    let status = status.await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(messages(&agent, "Killing"), ["Container app failed liveness probe, will be restarted"]);
    assert!(
        messages(&agent, "Unhealthy").iter().any(|text| text.starts_with("Liveness probe failed: cat: can't open '/tmp/up'"))
    );
    slow["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    agent.want(share(&[deleted(slow)])).await;
    agent.until_gone("slow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_takes_over_what_is_ready_without_a_word_to_the_contrary() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("kept", &[("app", "touch /tmp/ok; sleep 1000")]);
    for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
        web["spec"]["containers"][0][kind] = exec_probe(&["cat", "/tmp/ok"], 2);
        web["spec"]["containers"][0][kind]["periodSeconds"] = json!(30);
    }
    agent.want(share(std::slice::from_ref(&web))).await;
    let before = agent.until_ready("kept").await;
    agent.kill().await;

    let agent = Agent::start(&cluster);
    agent.want(share(std::slice::from_ref(&web))).await;
    let first = agent.until("kept", "said again", Value::is_object).await;
    assert!(is_ready(&first), "{first:#}");
    assert_eq!(first["containerStatuses"], before["containerStatuses"]);
    assert_eq!(agent.reasons(), Vec::<String>::new());
    agent.want(share(&[deleted(web)])).await;
    agent.until_gone("kept").await;
}

/// A server on loopback that keeps the heads of requests and answers each with what `reply` makes of it.
async fn serve<R>(tls: Option<Arc<rustls::ServerConfig>>, reply: R) -> (u16, Arc<Mutex<Vec<String>>>)
where
    R: Fn(&str) -> String + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    tokio::spawn(async move {
        async fn one(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &impl Fn(&str) -> String) -> Option<String> {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).unwrap();
            stream.write_all(reply(&head).as_bytes()).await.ok()?;
            stream.shutdown().await.ok()?;
            Some(head)
        }
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let head = match &tls {
                None => one(stream, &reply).await,
                Some(config) => match tokio_rustls::TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                    Ok(stream) => one(stream, &reply).await,
                    Err(_) => None,
                },
            };
            kept.lock().unwrap().extend(head);
        }
    });
    (port, heads)
}

/// A gRPC health server on loopback: the service `well` is served, `ill` is not, another is not known.
async fn serve_grpc() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                        let asked = request.body_mut().data().await.unwrap().unwrap();
                        let head = http_head();
                        let mut trailers = h2_trailers("0", "");
                        match &asked[5..] {
                            b"\x0a\x04well" => {
                                let mut body = respond.send_response(head, false).unwrap();
                                body.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false).unwrap();
                                body.send_trailers(trailers).unwrap();
                            }
                            b"\x0a\x03ill" => {
                                let mut body = respond.send_response(head, false).unwrap();
                                body.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 2]), false).unwrap();
                                body.send_trailers(trailers).unwrap();
                            }
                            _ => {
                                trailers = h2_trailers("5", "unknown service");
                                let mut head = head;
                                *head.headers_mut() = trailers;
                                respond.send_response(head, true).unwrap();
                            }
                        }
                    });
                }
            });
        }
    });
    port
}

fn http_head() -> hyper::Response<()> {
    hyper::Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn h2_trailers(status: &str, message: &str) -> hyper::HeaderMap {
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", message.parse().unwrap());
    trailers
}

/// One pod with a container for each probe; every way to ask, and every way to answer. The servers are of this test, on
/// loopback: `host:` and the host's network lead there.
#[tokio::test(flavor = "multi_thread")]
async fn http_https_and_grpc_answers_mean_what_they_mean_upstream() {
    if skipped() {
        return;
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["somebody.else".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let fine = |_: &str| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned();
    let (https, https_heads) = serve(Some(Arc::new(tls)), fine).await;
    let (http, heads) = serve(None, |head| {
        let to = |place: &str| format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 4\r\n\r\ngone");
        match head.split(' ').nth(1).unwrap() {
            "/here" => to("/there"),
            "/away" => to("http://another.invalid/"),
            "/round" => to("/round"),
            "/there" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            _ => "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
        }
    })
    .await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let grpc = serve_grpc().await;

    let get = |port: u16, path: &str| json!({"httpGet": {"host": "127.0.0.1", "port": port, "path": path}});
    let mut secure = get(https, "/");
    secure["httpGet"]["scheme"] = json!("HTTPS");
    secure["httpGet"]["httpHeaders"] =
        json!([{"name": "Host", "value": "lamp.home"}, {"name": "X-Probe", "value": "a"}, {"name": "X-Probe", "value": "b"}]);
    let asked = [
        ("secure", secure, true, ""),
        ("here", get(http, "/here"), true, ""),
        ("away", get(http, "/away"), true, "Readiness probe warning: Probe terminated redirects, Response body: gone"),
        ("round", get(http, "/round"), false, "stopped after 10 redirects"),
        ("down", get(http, "/down"), false, "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ("mute", get(mute_port, "/"), false, "context deadline exceeded"),
        (
            "closed",
            json!({"tcpSocket": {"host": "127.0.0.1", "port": 1}}),
            false,
            "Readiness probe failed: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        ("well", json!({"grpc": {"port": grpc, "service": "well"}}), true, ""),
        (
            "ill",
            json!({"grpc": {"port": grpc, "service": "ill"}}),
            false,
            "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
        ),
        ("unknown", json!({"grpc": {"port": grpc, "service": "what"}}), false, "code = 5 desc = unknown service"),
        ("nogrpc", json!({"grpc": {"port": http, "service": "well"}}), false, "health rpc probe failed"),
    ];
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let names: Vec<(&str, &str)> = asked.iter().map(|(name, ..)| (*name, "sleep 1000")).collect();
    let mut all = pod("all", &names);
    all["spec"]["hostNetwork"] = json!(true);
    for (container, (_, probe, ..)) in all["spec"]["containers"].as_array_mut().unwrap().iter_mut().zip(&asked) {
        container["readinessProbe"] = probe.clone();
        container["readinessProbe"]["periodSeconds"] = json!(1);
        container["readinessProbe"]["timeoutSeconds"] = json!(3);
    }
    agent.want(share(std::slice::from_ref(&all))).await;
    let good: Vec<&str> = asked.iter().filter(|(_, _, good, _)| *good).map(|(name, ..)| *name).collect();
    agent
        .until("all", "the good ones ready", |status| {
            let all = status["containerStatuses"].as_array();
            let ready = all.map(|all| all.iter().filter(|one| one["ready"] == true).map(|one| one["name"].as_str().unwrap()));
            ready.is_some_and(|ready| ready.collect::<Vec<_>>() == good)
        })
        .await;
    for (name, _, _, words) in asked.iter().filter(|(.., words)| !words.is_empty()) {
        let path = format!("spec.containers{{{name}}}");
        let said =
            || agent.events().into_iter().filter(|event| event.field_path == path).any(|event| event.message.contains(words));
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        while !said() {
            assert!(tokio::time::Instant::now() < end, "{name} never said {words}\n{:#?}", agent.events());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let head = https_heads.lock().unwrap()[0].to_ascii_lowercase();
    for line in [
        "get / http/1.1\r\n",
        "host: lamp.home\r\n",
        "x-probe: a\r\nx-probe: b\r\n",
        "accept: */*\r\n",
        "user-agent: kube-probe/",
        "connection: close\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert!(heads.lock().unwrap()[0].to_ascii_lowercase().contains(&format!("host: 127.0.0.1:{http}\r\n")));
    agent.want(share(&[deleted(all)])).await;
    agent.until_gone("all").await;
}
