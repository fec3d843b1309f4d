//! What flows: bodies as they come, connections that become something else, connections that are used again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{Backend, SOON, World};

/// Reads until an empty line.
async fn head(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = timeout(SOON, stream.read_line(&mut line)).await.expect("a line in time").unwrap();
        if read == 0 || line == "\r\n" {
            return lines;
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
}

async fn world_of(backend: &Backend) -> World {
    World::new(|share| {
        share.service("web", &[backend]);
        share.ingress("web", json!({"rules": [World::rule("a.example", "Prefix", "/", "web")]}));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_through_both_ways() {
    let backend = Backend::raw(|stream| async move {
        let mut stream = BufReader::new(stream);
        let asked = head(&mut stream).await;
        assert!(asked.contains(&"upgrade: websocket".to_owned()) && asked.contains(&"connection: upgrade".to_owned()), "{asked:?}");
        assert!(asked.contains(&"sec-websocket-key: abc".to_owned()), "{asked:?}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        loop {
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            if read == 0 {
                return;
            }
            stream.write_all(&buffer[..read].to_ascii_uppercase()).await.unwrap();
        }
    })
    .await;
    let mut world = world_of(&backend).await;
    let mut client = BufReader::new(TcpStream::connect(world.http()).await.unwrap());
    let request = "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer[0].starts_with("http/1.1 101") && answer.contains(&"upgrade: websocket".to_owned()), "{answer:?}");
    let mut first = [0; 5];
    timeout(SOON, client.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"first");
    // It outlives a change of everything.
    world.change(|share| {
        share.0 = bramble::link::share::Share::default();
        share.service("other", &[]);
        share.ingress("other", json!({"rules": [World::rule("b.example", "Prefix", "/", "other")]}));
    });
    for round in 0..20 {
        let text = format!("message {round}");
        client.write_all(text.as_bytes()).await.unwrap();
        let mut back = vec![0; text.len()];
        timeout(SOON, client.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, text.to_ascii_uppercase().into_bytes());
    }
    drop(client);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_flow_as_they_come() {
    // The back end answers the first chunk before it has the second.
    let backend = Backend::raw(|stream| async move {
        let mut stream = BufReader::new(stream);
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap_or_default() > 0 && line != "0\r\n" {
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.unwrap();
            stream.write_all(format!("{size:x}\r\n").as_bytes()).await.unwrap();
            stream.write_all(&chunk).await.unwrap();
            line.clear();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let world = world_of(&backend).await;
    let mut client = BufReader::new(TcpStream::connect(world.http()).await.unwrap());
    client.write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for round in 0..5 {
        client.write_all(b"5\r\nhello\r\n").await.unwrap();
        if round == 0 {
            assert!(head(&mut client).await[0].starts_with("http/1.1 200"));
        }
        let mut chunk = [0; 10];
        timeout(SOON, client.read_exact(&mut chunk)).await.expect("the answer does not wait for the request's end").unwrap();
        assert_eq!(&chunk, b"5\r\nhello\r\n");
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    let mut end = [0; 5];
    timeout(SOON, client.read_exact(&mut end)).await.unwrap().unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_pods_are_used_again_and_one_that_was_closed_meanwhile_does_no_harm() {
    let backend = Backend::echo("web").await;
    let world = world_of(&backend).await;
    let mut client = BufReader::new(TcpStream::connect(world.http()).await.unwrap());
    let mut ask = async || {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        let lines = head(&mut client).await;
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        timeout(SOON, client.read_exact(&mut body)).await.unwrap().unwrap();
        lines
    };
    for _ in 0..10 {
        assert!(ask().await[0].contains("200"));
    }
    assert_eq!(backend.asked.load(Ordering::SeqCst), 10);
    let peers = backend.peers.lock().unwrap().len();
    assert!(peers < 4, "{peers} connections for ten requests one after the other");
    world.end().await;

    // A pod that answers once and then closes without a word, as many do after a while.
    let rude = Backend::raw(|stream| async move {
        let mut stream = BufReader::new(stream);
        if !head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            // Gone when the next one comes, or just before.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let world = world_of(&rude).await;
    for round in 0..50 {
        let said = world.raw(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 200"), "{round}: {said}");
    }
    world.end().await;
}
