//! Bodies as kubectl sends them, and bodies as nobody should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn malformed(content_type: &str, bytes: &[u8]) -> String {
    match body(content_type, bytes) {
        Err(DecodeError::Malformed(words)) => words,
        other => panic!("{content_type}, {}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn json_is_read_under_its_names() {
    for content_type in ["", "application/json", "application/json; charset=utf-8", " Application/JSON ;a=b"] {
        let decoded = body(content_type, br#" {"a": [1, -2, 1.5, true, null, "\u00fc"], "b": {}} "#).expect("reads");
        assert_eq!(decoded.value, json!({"a": [1, -2, 1.5, true, null, "ü"], "b": {}}), "{content_type}");
        assert!(decoded.duplicates.is_empty());
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml;charset=utf-8", "*/*"] {
        assert!(matches!(body(content_type, b"{}"), Err(DecodeError::MediaType(_))), "{content_type}");
    }
}

#[test]
fn broken_json_is_refused_in_the_words_of_kubernetes() {
    for (text, words) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("{\"a\":1}}", "trailing characters"),
        ("{\"a\":1} {\"b\":1}", "trailing characters"),
        ("{a:1}", "key must be a string"),
        ("{1:1}", "key must be a string"),
        ("{\"a\":1e999}", "number out of range"),
        ("[]", "expected an object, found a list"),
        ("null", "expected an object, found null"),
        ("\"x\"", "expected an object, found a string"),
        ("kind: Pod", "expected value"),
    ] {
        let error = malformed("application/json", text.as_bytes());
        assert!(error.starts_with("couldn't get version/kind; json parse error: ") && error.contains(words), "{text}: {error}");
    }
    malformed("application/json", b"{\"a\": \"\xff\"}");
}

#[test]
fn keys_that_stand_twice_are_named_and_the_last_one_counts() {
    let decoded = body(
        "",
        br#"{"metadata": {"name": "a", "name": "b"}, "spec": {"replicas": 1, "replicas": 2, "replicas": 3,
            "containers": [{}, {"image": "x", "image": "y"}]}, "spec2": {"a": 1}}"#,
    )
    .expect("reads");
    assert_eq!(decoded.duplicates, ["metadata.name", "spec.replicas", "spec.containers[1].image"]);
    assert_eq!(decoded.value["metadata"], json!({"name": "b"}));
    assert_eq!(decoded.value["spec"]["replicas"], json!(3));
    let yaml = body("application/yaml", b"a: 1\nb:\n- c: 1\n  c: 2\na: 3\n").expect("reads");
    assert_eq!((yaml.duplicates, yaml.value), (vec!["b[0].c".to_owned(), "a".to_owned()], json!({"a": 3, "b": [{"c": 2}]})));
    let many = format!("{{{}}}", (0..1000).map(|n| format!("\"k{}\":1", n / 2)).collect::<Vec<_>>().join(","));
    assert_eq!(body("", many.as_bytes()).expect("reads").duplicates.len(), 100);
}

#[test]
fn yaml_is_read_as_json() {
    for content_type in ["application/yaml", "text/yaml", "application/x-yaml; charset=utf-8"] {
        let text = "# a pod\n---\nkind: Pod\nspec:\n  list: [1, 2.5, ~, yes, true, \"0644\", 0o644]\n  text: |\n    two\n    lines\n  1: number\n  true: bool\n  1.5: float\n";
        assert_eq!(
            body(content_type, text.as_bytes()).expect("reads").value,
            json!({"kind": "Pod", "spec": {"list": [1, 2.5, null, "yes", true, "0644", 420], "text": "two\nlines\n", "1": "number", "true": "bool", "1.5": "float"}})
        );
    }
    // JSON is YAML; an alias may repeat a little; merge keys give way to a map's own.
    assert_eq!(body("application/yaml", br#"{"a": "b"}"#).expect("reads").value, json!({"a": "b"}));
    assert_eq!(
        body(
            "application/yaml",
            b"base: &x {a: 1, b: 2}\nmore: &y {c: 3, a: 9}\none: {<<: *x, b: 3}\ntwo:\n  <<: [*x, *y]\nsame: *x\n"
        )
        .expect("reads")
        .value,
        json!({"base": {"a": 1, "b": 2}, "more": {"c": 3, "a": 9}, "one": {"a": 1, "b": 3}, "two": {"a": 1, "b": 2, "c": 3}, "same": {"a": 1, "b": 2}})
    );
}

#[test]
fn broken_yaml_is_refused_in_the_words_of_kubernetes() {
    for text in
        ["a: [", "a: b: c", "\t- a", "a: 1\n---\nb: 2\n", "a: .nan", "? [a]\n: 1", "~: 1", "a: *b", "<<: 1", "a: !foo 1", ""]
    {
        let bytes = text.as_bytes();
        let error = malformed("application/yaml", bytes);
        if !text.is_empty() {
            assert!(error.starts_with("error converting YAML to JSON: yaml: "), "{text}: {error}");
        }
    }
    malformed("application/yaml", b"a: \xff\xfe");
    assert!(malformed("application/yaml", b"- a\n").contains("expected an object, found a list"));
}

#[test]
fn a_body_is_neither_too_deep_nor_more_than_it_looks() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for content_type in ["application/json", "application/yaml"] {
        assert!(body(content_type, nested(100).as_bytes()).is_ok(), "{content_type}");
        for depth in [101, 120, 127, 128, 5000] {
            let error = malformed(content_type, nested(depth).as_bytes());
            assert!(error.contains("depth") || error.contains("recursion"), "{content_type} {depth}: {error}");
        }
    }
    malformed("application/json", "[".repeat(100_000).as_bytes());
    // Nine lists of nine of the one before, and one long text many times.
    let laughs = (1..12).fold("a0: &a0 lol\n".to_owned(), |text, n| {
        let inner = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{inner}]\n")
    });
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(20_000), vec!["*a"; 2000].join(", "));
    for bomb in [laughs, long] {
        let error = malformed("application/yaml", bomb.as_bytes());
        assert!(error.contains("excessive aliasing") || error.contains("repetition limit"), "{error}");
    }
}

#[test]
fn protobuf_is_read_under_its_name() {
    let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/protobuf/namespace.bin"));
    let decoded = body("application/vnd.kubernetes.protobuf", bytes).expect("reads");
    assert_eq!(decoded.value, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}));
    assert!(malformed("application/vnd.kubernetes.protobuf", b"{}").contains("prefix"));
}

#[test]
fn patches_may_be_lists() {
    assert_eq!(patch(br#"[{"op": "remove", "path": "/a"}]"#).expect("reads"), json!([{"op": "remove", "path": "/a"}]));
    assert_eq!(patch(br#"{"a": null}"#).expect("reads"), json!({"a": null}));
    assert!(patch(b"{").is_err_and(|error| error.to_string().starts_with("error decoding patch: ")));
    assert!(patch("[".repeat(200).as_bytes()).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z<0-9]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[-a\\[\\]{}:,*&!<>|'\"# \n1.~]{0,40}") {
        for content_type in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", &text] {
            drop(body(content_type, &bytes));
            drop(body(content_type, text.as_bytes()));
        }
        drop(patch(&bytes));
    }

    #[test]
    fn json_comes_back_as_it_went_and_yaml_reads_it_too(value in any_json()) {
        let value = json!({"root": value});
        let text = value.to_string();
        prop_assert_eq!(&body("", text.as_bytes()).expect("reads").value, &value);
        prop_assert_eq!(&patch(text.as_bytes()).expect("reads"), &value);
        let yaml = serde_yaml_ng::to_string(&value).expect("writes");
        if !yaml.contains("<<") {
            prop_assert_eq!(&body("application/yaml", yaml.as_bytes()).expect("reads").value, &value, "{}", yaml);
        }
    }
}

#[test]
fn nested_brackets_of_yaml_do_not_take_the_parsers_quadratic_time() {
    // Parsed, each of these takes minutes.
    for text in ["[".repeat(1 << 20), "{a: ".repeat(1 << 18), "[ ']', ".repeat(1 << 17)] {
        assert!(malformed("application/yaml", text.as_bytes()).contains("max depth"));
    }
}
