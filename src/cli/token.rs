//! `bramble token`: what lets a node in without a person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::admin::{Admin, Which, table};
use crate::api::core::join::{PIN_DIGITS, TOKEN_TYPE, Token, secret_text};
use crate::api::{Object, time};
use crate::clock::{Clock, SystemClock, Wall};
use crate::error::Report;
use crate::tls::pin;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a token and prints what to run on a Pi with it
    Create {
        #[command(flatten)]
        which: Which,
        /// How long it is good, like 30m, 24h, 7d; 0: without end
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
        ttl: u64,
        /// What it is for
        #[arg(long, value_name = "WORDS", default_value = "")]
        description: String,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: super::Output,
    },
    /// Lists tokens, without their secrets
    List {
        #[command(flatten)]
        which: Which,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: super::Output,
    },
    /// Deletes a token: it lets nobody in any more
    Delete {
        #[command(flatten)]
        which: Which,
        /// Its id, or all of it
        id: String,
    },
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a time like 30m, 24h or 7d, or 0; found {text:?}");
    if text == "0" {
        return Ok(0);
    }
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let digits: String = text.chars().take(text.chars().count() - 1).collect();
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|&seconds| seconds > 0 && seconds <= 10 * 365 * 24 * 3600).ok_or_else(wrong)
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    match args.command {
        Command::Create { which, ttl, description, output } => create(&which.open()?, ttl, &description, output),
        Command::List { which, output } => list(&which.open()?, output),
        Command::Delete { which, id } => {
            let id = id.split('.').next().unwrap_or_default();
            if Token::parse(&format!("{id}.0123456789abcdef")).is_none() {
                return Err(Report::usage(format!("{id:?} is no token's id")).fix("`bramble token list` shows them"));
            }
            which.open()?.expect("the token is not deleted", "DELETE", &format!("{SECRETS}/bootstrap-token-{id}"), None)?;
            super::print(&format!("token {id} deleted\n"));
            Ok(())
        }
    }
}

/// Characters that all programs take in a token.
fn random(length: usize) -> Result<String, Report> {
    use ring::rand::SecureRandom as _;
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; length];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Report::failed("the system gives no random numbers"))?;
    Ok(bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)).map(|&letter| char::from(letter))).collect())
}

fn create(admin: &Admin, ttl: u64, description: &str, output: super::Output) -> Result<(), Report> {
    let ca = std::fs::read(&admin.config.tls.ca).map_err(|error| Report::failed("cannot read the CA").because(error))?;
    let pin = pin(&ca, PIN_DIGITS).map_err(|error| Report::failed("cannot use the CA").because(error))?;
    let (id, secret) = (random(6)?, random(16)?);
    let until = (ttl > 0).then(|| {
        let ms = i64::try_from(ttl).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        time::rfc3339(Wall(SystemClock::start().now().wall.0.saturating_add(ms)))
    });
    let texts = [
        ("token-id", Some(id.as_str())),
        ("token-secret", Some(secret.as_str())),
        ("usage-bootstrap-authentication", Some("true")),
        ("expiration", until.as_deref()),
        ("description", Some(description).filter(|words| !words.is_empty())),
    ];
    let encoded = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::from(STANDARD.encode(text?)))));
    let data: serde_json::Map<String, Value> = encoded.collect();
    let secret_object = json!({"apiVersion": "v1", "kind": "Secret", "type": TOKEN_TYPE, "data": data,
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"}});
    admin.expect("the token is not made", "POST", SECRETS, Some(&secret_object))?;
    let (token, url) = (format!("{id}.{secret}.{pin}"), admin.url());
    let command = format!("bramble agent --join {url} --token {token}");
    super::print(&match output {
        super::Output::Json => {
            format!("{}\n", json!({"id": id, "token": token, "master": url, "expires": until, "command": command}))
        }
        super::Output::Text => format!("{command}\n"),
    });
    Ok(())
}

fn list(admin: &Admin, output: super::Output) -> Result<(), Report> {
    let all = admin.expect("the tokens cannot be listed", "GET", SECRETS, None)?;
    let tokens: Vec<Value> = all
        .list_at(&["items"])
        .iter()
        .filter_map(|item| Object::from_value(item.clone()))
        .filter(|secret| secret.str_at(&["type"]) == TOKEN_TYPE)
        .map(|secret| {
            json!({"id": secret_text(&secret, "token-id"), "expires": secret_text(&secret, "expiration"),
                "description": secret_text(&secret, "description")})
        })
        .collect();
    let text = |token: &Value, key: &str| token.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    super::print(&match output {
        super::Output::Json => format!("{}\n", Value::from(tokens)),
        super::Output::Text => {
            let mut rows = vec![["ID", "EXPIRES", "DESCRIPTION"].map(str::to_owned).to_vec()];
            rows.extend(tokens.iter().map(|token| {
                let expires = Some(text(token, "expires")).filter(|text| !text.is_empty()).unwrap_or_else(|| "never".to_owned());
                vec![text(token, "id"), expires, text(token, "description")]
            }));
            table(&rows)
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, expected) in [("24h", Some(86400)), ("30m", Some(1800)), ("7d", Some(604_800)), ("0", Some(0))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["", "h", "24", "-1h", "0h", "1y", "99999999999999999999h", "ü"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_drawn_is_a_token() {
        let token = format!("{}.{}", random(6).unwrap(), random(16).unwrap());
        assert!(Token::parse(&token).is_some(), "{token}");
    }
}
