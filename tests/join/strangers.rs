//! Whoever is nobody may ask to join, and nothing else, and not too often.

use std::path::Path;

use super::home::{Home, run};

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn ask(home: &Home, method: &str, path: &str, more: &[&str]) -> String {
    let ca = home.dir.path().join("master/pki/ca.crt").display().to_string();
    let url = format!("https://127.0.0.1:{}{path}", home.api);
    let asked = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &ca, "-X", method, &url];
    run(Path::new("/usr/bin/curl"), &[&asked[..], more].concat(), &[]).good()
}

#[test]
fn without_a_certificate_nothing_is_seen_but_what_joining_needs() {
    let home = Home::new();
    let token = home.token(&[]);
    let bearer = format!("Authorization: Bearer {}", token.rsplit_once('.').unwrap().0);
    let with_token = ["-H", bearer.as_str()];
    for (method, path, anonymous, token) in [
        ("GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info", "200", "200"),
        ("GET", "/api/v1/namespaces/kube-public/configmaps", "401", "403"),
        ("GET", "/api/v1/namespaces/kube-system/secrets", "401", "403"),
        ("GET", "/api/v1/nodes", "401", "403"),
        ("POST", "/api/v1/namespaces/default/pods", "401", "403"),
        ("GET", CSRS, "401", "403"),
        ("DELETE", CSRS, "401", "403"),
        ("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests/other", "404", "404"),
        ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/other/approval", "401", "403"),
        ("GET", "/api", "401", "403"),
        ("GET", "/readyz", "200", "200"),
    ] {
        assert_eq!(ask(&home, method, path, &[]), anonymous, "{method} {path}");
        assert_eq!(ask(&home, method, path, &with_token), token, "{method} {path} with a token");
    }
    let large = home.dir.path().join("large");
    std::fs::write(&large, vec![b' '; 20_000]).unwrap();
    let body = format!("@{}", large.display());
    assert_eq!(ask(&home, "POST", CSRS, &["-H", "Content-Type: application/json", "--data-binary", &body]), "413");
}

#[test]
fn a_request_of_somebody_else_is_not_seen_and_a_flood_is_stopped() {
    let home = Home::new();
    let token = home.token(&[]);
    let _in = home.agent("a", "shed", "1000", &["--token", &token]);
    home.wait_ready(&["shed"]);
    let name = home.kubectl(&["get", "csr", "-o", "jsonpath={.items[0].metadata.name}"]).good();
    assert_eq!(ask(&home, "GET", &format!("{CSRS}/{name}"), &[]), "404");
    // By one program, which asks faster than the bucket fills up again.
    let said = ask(&home, "GET", &format!("{CSRS}/[1-100]"), &[]);
    let answers: Vec<&str> = said.as_bytes().chunks(3).filter_map(|code| std::str::from_utf8(code).ok()).collect();
    let refused = answers.iter().filter(|code| **code == "429").count();
    assert!(answers.len() == 100 && refused > 0 && answers.iter().all(|code| ["404", "429"].contains(code)), "{said}");
    // People and nodes are not held up by that.
    home.kubectl(&["get", "nodes"]).good();
    assert_eq!(home.ready_nodes(), ["shed"]);
}
