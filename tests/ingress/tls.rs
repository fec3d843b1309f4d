//! Certificates by name, redirects, HTTP/2; and what happens when a certificate is none.

use std::net::SocketAddr;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bramble::pkcs10;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::world::{Backend, World, curl};

/// The data of a secret with a certificate for this name.
pub fn certificate(name: &str) -> Value {
    let key = pkcs10::new_key().unwrap();
    let parsed = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let pem = pkcs10::pem("CERTIFICATE", &pkcs10::self_signed(parsed.secret_der(), name).unwrap());
    json!({"tls.crt": STANDARD.encode(pem), "tls.key": STANDARD.encode(key)})
}

/// The name in the certificate that openssl is shown.
async fn shown(to: SocketAddr, name: Option<&str>) -> String {
    let mut command = tokio::process::Command::new("openssl");
    command.args(["s_client", "-connect", &to.to_string()]);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let output = command.stdin(Stdio::null()).output().await.expect("Debian's openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = text.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_else(|| panic!("{text}"));
    subject.replace("CN = ", "").trim().to_owned()
}

async fn secure(world: &World, host: &str, arguments: &[&str]) -> super::world::Said {
    let to = format!("{host}:443:{}", world.https());
    let url = format!("https://{host}/");
    curl(&[&["-k", "--connect-to", &to, &url], arguments].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_is_shown_its_certificate_and_without_tls_a_client_is_sent_there() {
    let backend = Backend::echo("web").await;
    let mut world = World::new(|share| {
        share.service("web", &[&backend]);
        share.secret("one", certificate("one.example"));
        share.secret("star", certificate("star.example"));
        share.secret("broken", json!({"tls.crt": STANDARD.encode("no certificate"), "tls.key": "%"}));
        let rules: Vec<Value> = ["one.example", "*.star.example", "broken.example", "plain.example"]
            .map(|host| World::rule(host, "Prefix", "/", "web"))
            .into();
        let tls = json!([{"hosts": ["one.example"], "secretName": "one"}, {"hosts": ["*.star.example"], "secretName": "star"},
            {"hosts": ["broken.example"], "secretName": "broken"}]);
        share.ingress("web", json!({"rules": rules, "tls": tls}));
    })
    .await;
    let own = "no-certificate.bramble.invalid";
    for (asked, expected) in [
        (Some("one.example"), "one.example"),
        (Some("a.star.example"), "star.example"),
        (Some("b.a.star.example"), own),
        (Some("broken.example"), own),
        (Some("plain.example"), own),
        (None, own),
    ] {
        assert_eq!(shown(world.https(), asked).await, expected, "{asked:?}");
    }
    for (arguments, version) in [(&["--http1.1"][..], "1.1"), (&["--http2"], "2"), (&["--http2", "--tls-max", "1.2"], "2")] {
        let said = secure(&world, "one.example", arguments).await;
        assert_eq!((said.status, said.version.as_str()), (200, version), "{}", said.body);
        assert!(said.body.contains("x-forwarded-proto: https") && said.body.contains("host: one.example\n"), "{}", said.body);
    }
    let said = secure(&world, "one.example", &["--http2", "-d", "hello", "-H", "Cookie: a=1", "-H", "Cookie: b=2"]).await;
    assert!(said.body.contains("cookie: a=1; b=2") && said.body.ends_with("\n\nhello"), "{}", said.body);

    let sent = curl(&["-H", "Host: one.example", &world.url("/x?y=z")]).await;
    let at = world.https().port();
    assert_eq!(sent.status, 308);
    // The port in the settings is 0, "any", in this test only.
    assert!(sent.location.starts_with("https://one.example") && sent.location.ends_with("/x?y=z"), "{} {at}", sent.location);
    assert_eq!(world.get("plain.example", "/").await.status, 200, "it has no certificate");

    // A new certificate is shown to the next client, a mended one too; the door stays open.
    world.change(|share| {
        share.secret("one", certificate("renewed.example"));
        share.secret("broken", certificate("mended.example"));
    });
    let mut names = Vec::new();
    for _ in 0..50 {
        names = vec![shown(world.https(), Some("one.example")).await, shown(world.https(), Some("broken.example")).await];
        if names == ["renewed.example", "mended.example"] {
            break;
        }
    }
    assert_eq!(names, ["renewed.example", "mended.example"]);
    world.end().await;
}
