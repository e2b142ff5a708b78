//! Why there is no connection, for whoever starts the program.

use redis::{ErrorKind, RedisError};

use crate::config::{RedisConfig, Servers};
use mastaba::shared::connections::ConnectError;

/// What a first attempt that failed means for the start: an error, or a warning where the servers are optional.
pub(super) fn at_start(
    config: &RedisConfig,
    failed: Option<&RedisError>,
    optional: bool,
) -> Result<(), ConnectError> {
    let Some(error) = failed else { return Ok(()) };
    let error = explain(config, error.clone());
    if !optional || error.is_config() {
        return Err(error);
    }
    tracing::warn!(target: "mastaba", "{error}; reads go to the source until it can be reached");
    Ok(())
}

/// What the user of an access control list needs, as a line to copy.
pub(super) fn rights(config: &RedisConfig) -> String {
    let name = config.username.as_deref().unwrap_or("cache");
    let mut more = String::new();
    if config.database != 0 {
        more.push_str(" +select");
    }
    if matches!(config.servers, Servers::Cluster(_)) {
        more.push_str(" +cluster|slots +asking");
    }
    if config.tell || matches!(config.servers, Servers::Cluster(_)) {
        more.push_str(" +ping");
    }
    if config.tell {
        more.push_str(" +client|tracking");
    }
    format!(
        "what it needs: ACL SETUSER {name} on >PASSWORD ~{}mastaba:* -@all +info +mget +get +getrange +set +unlink \
         +pttl +eval +evalsha{more}",
        config.prefix
    )
}

/// Why a server did not answer a question, in a clause.
pub(super) fn refusal(command: &str, error: &RedisError) -> String {
    let said = error.detail().unwrap_or_default();
    if error.code() == Some("NOPERM") {
        format!("the user has no right to {command}")
    } else if said.contains("unknown command") || said.contains("unknown subcommand") {
        format!("the server does not know {command}")
    } else {
        format!("the server refuses {command}: {} {said}", error.code().unwrap_or("ERR"))
    }
}

/// An error without the password, which some servers repeat when they do not understand the words around it.
pub(super) fn discreet(config: &RedisConfig, error: RedisError) -> RedisError {
    let text = format!("{error:?} {error}");
    let secrets = [&config.password, &config.sentinel_password];
    // the beginning is enough: a server cuts what it repeats
    let begins = |secret: &String| secret.chars().take(8).collect::<String>();
    let mut secrets = secrets.into_iter().flatten().filter(|secret| !secret.is_empty()).map(begins);
    if secrets.any(|secret| text.contains(&secret)) {
        return (ErrorKind::AuthenticationFailed, "the server does not understand how we say who we are")
            .into();
    }
    error
}

/// One sentence that names the servers, says what was wrong and what to do.
pub(super) fn explain(config: &RedisConfig, error: RedisError) -> ConnectError {
    let error = discreet(config, error);
    let place = config.place();
    // over a cluster, what a node said is only to be found in the text
    let said = error.to_string();
    let has = |part: &str| said.contains(part);
    // there never was a connection: the crate reports that like one that was closed
    let never = ["refused", "No such file", "ermission denied", "lookup"].into_iter().any(has);
    let refused = |what: String| ConnectError::refused(format!("{place} {what}"));
    let unreachable = |what: String| ConnectError::unreachable(format!("{place} {what}"));
    let done = if let Some((_, sentence)) =
        said.split_once("the server cannot be used - InvalidClientConfig: ")
    {
        refused(format!("cannot be used: {sentence}"))
    } else if has("NOAUTH") && config.password.is_none() {
        refused("asks for a password, and none is given: set `password`, and `username` unless it is the default user".into())
    } else if has("WRONGPASS") || has("NOAUTH") {
        refused("refuses the username or the password: check `username` and `password`".into())
    } else if has("refused to switch database") && !has("permission") {
        let database = config.database;
        refused(format!(
            "has no database {database}: choose another one, or more `databases` in its configuration"
        ))
    } else if has("NOPERM") || has("no permissions") || has("has no permission") {
        refused(format!("refuses the user a right: {}: {said}", rights(config)))
    } else if error.kind() == ErrorKind::RESP3NotSupported || has("NOPROTO") || has("HELLO") {
        // one server alone is used all the same
        refused(format!(
            "does not speak RESP3 (HELLO), which a cluster has to: it is older than 7.0, or stands behind a proxy: {said}"
        ))
    } else if error.kind() == ErrorKind::AuthenticationFailed {
        refused(format!("refuses the username or the password: {said}"))
    } else if config.tls.is_none() && has("Parse error") {
        refused("does not speak the protocol of Redis: another program listens on that port".into())
    } else if config.tls.is_some() {
        explain_tls(config, &place, &said)
    } else if error.is_connection_dropped() && !never {
        unreachable(format!(
            "closed the connection at the first word; if it wants TLS, use rediss://: {said}"
        ))
    } else {
        unreachable(format!("cannot be reached: is it running, and is the address right? {said}"))
    };
    done.because(error)
}

fn explain_tls(config: &RedisConfig, place: &str, said: &str) -> ConnectError {
    let has = |part: &str| said.contains(part);
    let ours = config.tls.as_ref().is_some_and(|tls| tls.cert.is_some());
    let what = if has("InvalidContentType") || has("corrupt message") {
        "does not speak TLS on that port: use another port, or use redis://"
    } else if has("UnknownIssuer") || has("BadSignature") {
        "has a certificate of an authority that is not trusted: set tls_ca to the file of the right one"
    } else if has("NotValidForName") || has("not valid for name") {
        "has a certificate for another name: use the host that the certificate names"
    } else if has("Expired") || has("NotValidYet") {
        "has a certificate that is not valid today: renew it, or set the clock right"
    } else if has("CertificateRequired") || has("HandshakeFailure") && !ours {
        "asks for a client certificate: set tls_cert and tls_key"
    } else if has("UnknownCA") || has("BadCertificate") || has("CertificateUnknown") || has("DecryptError") {
        "does not trust our certificate: set tls_cert and tls_key to one of an authority that it knows"
    } else if has("timed out") || has("no answer") {
        // a server without TLS waits for the end of what it takes for a line
        "does not answer: is it running, and does it speak TLS on that port? If not, use redis://"
    } else {
        "cannot be reached by TLS: is it running, and are the address and the certificates right?"
    };
    ConnectError::unreachable(format!("{place} {what}: {said}"))
}
