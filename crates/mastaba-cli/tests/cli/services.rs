//! The doctor before what is no plain server: services that forbid commands, and several servers behind one address.

use mastaba_test::servers::{Cluster, RedisServer};
use serde_json::Value;

use crate::binary::json;
use crate::imposter::{Imposter, Pose};

const SCRIPTS: &[&str] = &["EVAL", "EVALSHA", "SCRIPT"];

async fn diagnosis(url: &str, code: i32) -> Value {
    json(url, &["doctor", "--pings", "5"], code).await
}

fn used(found: &Value, what: &str) -> (bool, String) {
    let it = found["uses"].as_array().unwrap().iter().find(|it| it["what"] == what).unwrap();
    (it["used"].as_bool().unwrap(), it["how"].as_str().unwrap().to_owned())
}

fn level<'f>(found: &'f Value, about: &str) -> Option<&'f str> {
    let it = found["advice"].as_array().unwrap().iter().find(|it| it["about"] == about)?;
    it["level"].as_str()
}

/// It starts, and no start says that it does nothing.
#[tokio::test]
async fn a_server_on_which_nothing_can_be_stored_is_a_problem() {
    let Some(server) = RedisServer::start().await else { return };
    let service = Imposter::before(server.addr(), Pose::default().forbids(SCRIPTS)).await;
    let found = diagnosis(&format!("redis://{}", service.addr()), 1).await;
    assert_eq!(level(&found, "stores"), Some("problem"), "{found:#}");
    for what in ["fills", "fills without leases", "holds"] {
        assert!(!used(&found, what).0, "{what}");
    }
}

/// With `SET .. IFEQ` it goes without scripts, which is good to know.
#[tokio::test]
async fn a_server_without_scripts_that_compares_is_used() {
    let Some(server) = RedisServer::start().await else { return };
    let service = Imposter::before(server.addr(), Pose::default().compares().forbids(SCRIPTS)).await;
    let found = diagnosis(&format!("redis://{}", service.addr()), 0).await;
    assert_eq!((level(&found, "scripts"), level(&found, "stores")), (Some("note"), None), "{found:#}");
    assert!(used(&found, "fills").0 && used(&found, "holds").0);
}

/// A key and the record of its write stamp are two keys for a script, and such a service refuses them. The doctor finds that out,
/// as a region does with its first write.
#[tokio::test]
async fn several_servers_behind_one_address_are_found_out() {
    let Some(server) = RedisServer::start().await else { return };
    let service = Imposter::split(server.addr()).await;
    let found = diagnosis(&format!("redis://{}", service.addr()), 0).await;
    let (unleased, how) = used(&found, "fills without leases");
    assert!(!unleased && how.contains("CROSSSLOT"), "{how}");
    assert!(used(&found, "fills").1.contains("CROSSSLOT"), "{found:#}");
    assert_eq!(server.command(&["DBSIZE"]).await, "0", "nothing is left behind");
    // and where there is one server
    let found = diagnosis(&server.url(), 0).await;
    assert!(used(&found, "fills without leases").0 && !used(&found, "fills").1.contains("CROSSSLOT"));
    assert_eq!(server.command(&["DBSIZE"]).await, "0", "nothing is left behind");
}

/// In a cluster stamps stand on other nodes than their keys, and no script is for both.
#[tokio::test]
async fn in_a_cluster_no_command_crosses_slots() {
    let Some(cluster) = Cluster::start().await else { return };
    let url = cluster.url();
    let found = diagnosis(&url, 0).await;
    assert!(!found.to_string().contains("CROSSSLOT"), "{found:#}");
    let keys: Vec<String> = (0..20).map(|n| format!("mastaba:objects:book:{n}")).collect();
    let words: Vec<&str> = ["invalidate"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(json(&url, &words, 0).await[0]["keys"].as_array().unwrap().len(), 20);
    assert_eq!(json(&url, &["clear", "objects"], 1).await[0]["region_known"], false);
    json(&url, &["clear", "objects", "--tag", "a", "--tag", "b"], 1).await;
}
