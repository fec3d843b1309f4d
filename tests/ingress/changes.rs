//! Changes under load, doors that open and close, and the stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bramble::agent::ingress::run::{Open, Settings};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::tls::certificate;
use super::world::{Backend, SOON, World};

fn web() -> serde_json::Value {
    json!({"rules": [World::rule("a.example", "Prefix", "/", "web")]})
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_changes_under_load_lose_no_request() {
    let pods = [Backend::echo("one").await, Backend::echo("two").await, Backend::echo("three").await];
    let mut world = World::new(|share| {
        share.service("web", &[&pods[0]]);
        share.ingress("web", web());
    })
    .await;
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (to, done, asked) = (world.http(), done.clone(), asked.clone());
            tokio::spawn(async move {
                let mut faults = Vec::new();
                let mut client = BufReader::new(TcpStream::connect(to).await.unwrap());
                while !done.load(Ordering::Relaxed) {
                    // Half of them send something, which is never sent twice.
                    let request: &[u8] = if number % 2 == 0 {
                        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
                    } else {
                        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
                    };
                    client.write_all(request).await.expect("the connection stays");
                    let (mut status, mut length) = (String::new(), 0);
                    loop {
                        let mut line = String::new();
                        let read = timeout(SOON, client.read_line(&mut line)).await.expect("in time").unwrap();
                        assert!(read > 0, "the connection was closed");
                        if line == "\r\n" {
                            break;
                        }
                        let lower = line.to_ascii_lowercase();
                        if let Some(number) = lower.strip_prefix("content-length:") {
                            length = number.trim().parse().unwrap();
                        }
                        if status.is_empty() {
                            status = line;
                        }
                    }
                    let mut body = vec![0; length];
                    client.read_exact(&mut body).await.unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !status.contains("200") {
                        faults.push(format!("{status}{}", String::from_utf8_lossy(&body)));
                    }
                }
                faults
            })
        })
        .collect();
    for round in 0..200 {
        world.change(|share| {
            let (first, second) = (&pods[round % 3], &pods[(round + 1) % 3]);
            if round % 2 == 0 {
                share.service("web", &[first]);
            } else {
                share.service("web", &[first, second]);
            }
            share.ingress("other", json!({"rules": [World::rule(&format!("{round}.example"), "Exact", "/", "web")]}));
            if round % 10 == 0 {
                share.secret("web", certificate("a.example"));
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert_eq!(client.await.unwrap(), Vec::<String>::new());
    }
    let each: Vec<usize> = pods.iter().map(|pod| pod.asked.load(Ordering::SeqCst)).collect();
    println!("{} requests over 200 changes, by pod {each:?}", asked.load(Ordering::Relaxed));
    assert!(each.iter().all(|count| *count > 0), "{each:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_open_while_there_is_an_ingress_and_taken_when_it_becomes_free() {
    let squatter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = squatter.local_addr().unwrap().port();
    let address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let mut world = World::with(Settings { address, ..Settings::at(Some(port), None) }, |_| {});
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*world.open.borrow(), Open::default(), "no ingress, no port");
    world.change(|share| share.ingress("web", web()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*world.open.borrow(), Open::default(), "somebody else has it");
    drop(squatter);
    let mut open = world.open.clone();
    timeout(SOON, open.wait_for(|open| open.http.is_some())).await.expect("it is tried again").unwrap();
    assert_eq!(world.get("a.example", "/").await.status, 503);
    world.change(|share| share.0.ingresses.clear());
    timeout(SOON, open.wait_for(|open| open.http.is_none())).await.expect("it is closed").unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loopback_endpoint_is_nobody() {
    let backend = Backend::echo("own").await;
    let address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let world = World::with(Settings { address, ..Settings::at(Some(0), None) }, |share| {
        share.service("web", &[&backend]);
        share.ingress("web", web());
    });
    let mut open = world.open.clone();
    timeout(SOON, open.wait_for(|open| open.http.is_some())).await.unwrap().unwrap();
    assert_eq!(world.get("a.example", "/").await.status, 503);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_answers_go_out_and_cuts_off_what_never_ends() {
    let asked = Arc::new(tokio::sync::Notify::new());
    let hears = Arc::clone(&asked);
    let slow = Backend::raw(move |stream| {
        let hears = Arc::clone(&hears);
        async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            hears.notify_one();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.unwrap();
            let mut rest = Vec::new();
            // Until the door closes; how it does is not what is tested.
            let _ = stream.read_to_end(&mut rest).await;
        }
    })
    .await;
    let endless = Backend::silent().await;
    let world = World::new(|share| {
        share.service("web", &[&slow]);
        share.service("endless", &[&endless]);
        share.ingress("web", json!({"rules": [World::rule("a.example", "Prefix", "/", "web"), World::rule("b.example", "Prefix", "/", "endless")]}));
    })
    .await;
    let to = world.http();
    let ask = |host: &'static str| async move {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said).await;
        said
    };
    let (good, never) = (tokio::spawn(ask("a.example")), tokio::spawn(ask("b.example")));
    timeout(SOON, asked.notified()).await.unwrap();
    let begun = std::time::Instant::now();
    world.end().await;
    let took = begun.elapsed();
    assert!(good.await.unwrap().ends_with("ok"));
    assert_eq!(never.await.unwrap(), "");
    assert!(took < Duration::from_secs(10), "{took:?}");
}
