//! The first words on every connection: what the server is, and with which list of servers it is used.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connection::{Incoming, Pipe};
use super::{ItemCommand, ItemReply};
use crate::hub::ServerList;
use mastaba::shared::connections::ConnectError;

/// What is older was not tried: the first versions had other words in their commands.
const OLDEST: [u32; 3] = [1, 6, 18];
/// The key of the record that says with which list of servers a server is used.
const LIST_KEY: &[u8] = b"mastaba@servers";
/// The key of a record that stands for a while after a server was taken over.
const QUIET_KEY: &[u8] = b"mastaba@quiet";
/// What a server that was started with `-M` costs.
pub(crate) const NEVER_EVICTS: &str =
    "it was started with -M, so nothing more is stored once it is full; leave -M out";
/// How often the record is tried again, when others change it at the same time.
const TRIES: usize = 16;

/// Connects to a server, and asks it what it is before anybody else may send it a command.
pub(super) async fn open(hub: &ServerList, server: usize) -> Result<Arc<Pipe>, ConnectError> {
    let work = async {
        let (host, port) = &hub.config.servers[server];
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| cannot_reach(hub, server, &error))?;
        // a command is sent at once
        stream.set_nodelay(true).map_err(|error| cannot_reach(hub, server, &error))?;
        let mut stream = Incoming::new(stream);
        ask(hub, server, &mut stream).await?;
        let connection = Pipe::over(hub.name(server), stream);
        join(hub, server, &connection).await?;
        Ok(connection)
    };
    match tokio::time::timeout(hub.config.connect_timeout, work).await {
        Ok(done) => done,
        Err(_) => Err(ConnectError::unreachable(format!(
            "memcached at {} does not answer within {:?}: is it running, and is the address right?",
            hub.name(server),
            hub.config.connect_timeout
        ))),
    }
}

fn cannot_reach(hub: &ServerList, server: usize, error: &io::Error) -> ConnectError {
    let name = hub.name(server);
    if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::ConnectionReset {
        return ConnectError::unreachable(format!(
            "memcached at {name} closed the connection at the first word: does it listen with TLS, which this client lacks, \
             or has it too many connections (-c)? {error}"
        ));
    }
    ConnectError::unreachable(format!(
        "memcached at {name} cannot be reached: is it running, and is the address right? {error}"
    ))
}

/// Asks for the version and the settings, and says what of them does not do.
async fn ask(hub: &ServerList, server: usize, stream: &mut Incoming<TcpStream>) -> Result<(), ConnectError> {
    let refused = |what: &str| ConnectError::refused(format!("memcached at {} {what}", hub.name(server)));
    let lost = |error: io::Error| cannot_reach(hub, server, &error);
    stream.stream.write_all(b"version\r\n").await.map_err(lost)?;
    let said = stream.line().await.map_err(lost)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    if said.contains("unauthenticated") {
        return Err(refused(
            "asks for a password (-Y or -S), and this client cannot give one: let it listen without, in a network of its own \
             or behind a tunnel",
        ));
    }
    let Some(version) = said.strip_prefix("VERSION ") else {
        return Err(refused("does not answer like a Memcached: is the address right?"));
    };
    if numbers(version).is_none_or(|version| version < OLDEST) {
        let [major, minor, patch] = OLDEST;
        return Err(refused(&format!(
            "has the version {version:.20}, and {major}.{minor}.{patch} or later is needed"
        )));
    }
    stream.stream.write_all(b"stats settings\r\n").await.map_err(lost)?;
    for line in stream.lines().await.map_err(lost)? {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("STAT"), Some("cas_enabled"), Some("no")) => {
                return Err(refused(
                    "was started with -C, so it has no CAS numbers, which everything relies on: leave -C out",
                ));
            }
            (Some("STAT"), Some("item_size_max"), Some(size)) => {
                let size = size.parse().map_err(|_| refused("says an item_size_max that is no number"))?;
                hub.takes(server, size);
            }
            (Some("STAT"), Some("evictions"), Some("off")) => {
                tracing::warn!(target: "mastaba", "memcached at {}: {NEVER_EVICTS}", hub.name(server));
            }
            (Some("STAT" | "END"), ..) => {}
            // a proxy that does not know it: the settings are those of the servers behind it, and nobody knows those
            _ => {
                return Err(refused("does not tell its settings (`stats settings`): a proxy cannot be used"));
            }
        }
    }
    Ok(())
}

fn numbers(version: &str) -> Option<[u32; 3]> {
    // also "1.6.38-debian" and "1.6.38_beta1"
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let mut parts = version.trim().splitn(3, '.').map(number);
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// Finds, or writes, with which list of servers a server is used.
///
/// A key has its place by the whole list. Two processes with different lists have it in different places, and what one stores
/// the other does not void. Whoever comes to a server for the first time and finds another list takes the server over, with
/// a later generation: what was stored under it before, also by processes with its own list, is then of another incarnation.
/// Those that are there already find that out, and stop (`R11`).
///
/// Where the record is gone (the server was restarted or flushed, or it was evicted) whoever uses the server writes the same
/// one again.
///
/// A visitor ([`Memcached::visit`](crate::Memcached::visit)) writes nothing of that: it stops where another list is in use.
pub(super) async fn join(hub: &ServerList, server: usize, connection: &Pipe) -> Result<(), ConnectError> {
    let name = hub.name(server);
    let failed = |what: String| ConnectError::unreachable(format!("memcached at {name}: {what}"));
    let run = async |commands: Vec<ItemCommand>| {
        connection.run(commands).await.map_err(|fault| ConnectError::unreachable(fault.to_string()))
    };
    for _ in 0..TRIES {
        let (key, quiet) = (hub.full(LIST_KEY), hub.full(QUIET_KEY));
        let mut looked = run(vec![ItemCommand::look(key.clone()), ItemCommand::read(quiet.clone())]).await?;
        let is_quiet = matches!(looked.pop(), Some(ItemReply::Done(_)));
        if is_quiet {
            hub.keep_quiet();
        }
        let (found, cas) = match looked.pop() {
            // The record of the other list is gone, and those who wrote it are there: it is theirs to write it again.
            Some(ItemReply::Missing) if hub.is_elsewhere(server) || hub.visits() => return Ok(()),
            Some(ItemReply::Missing) => {
                let record = record(hub.list(), hub.generation());
                match run(vec![ItemCommand::add(key, &record, None)]).await?.pop() {
                    Some(ItemReply::Done(_)) => {
                        hub.joined(server);
                        return Ok(());
                    }
                    Some(ItemReply::Refused(said)) => {
                        return Err(failed(format!("it cannot store anything: {said}")));
                    }
                    _ => continue,
                }
            }
            Some(ItemReply::Done(item)) => (item.record.unwrap_or_default(), item.cas.unwrap_or_default()),
            Some(ItemReply::Refused(said)) => return Err(failed(said)),
            _ => continue,
        };
        let (list, generation) = parts(&found);
        if list == hub.list() && generation >= hub.generation() {
            hub.learn(generation);
            hub.joined(server);
            return Ok(());
        }
        let ours = list == hub.list();
        if !ours && !hub.found_elsewhere(server) {
            return Ok(()); // and nothing is done there, as long as it is so
        }
        if hub.visits() {
            hub.joined(server);
            return Ok(());
        }
        if !ours {
            // before it is taken over: whoever finds that it was finds this, too
            run(vec![ItemCommand::put(quiet, b"1", Some(hub.quiet()))]).await?;
        }
        // a later one than any that was met; random, for another process may do the same on another server
        let later = || hub.generation().max(generation).saturating_add(fastrand::u64(1..1 << 32));
        let next = if ours { hub.generation() } else { later() };
        let swap = ItemCommand::swap(key, &record(hub.list(), next), None, cas);
        if let Some(ItemReply::Done(_)) = run(vec![swap]).await?.pop() {
            if !ours {
                hub.took_over(server, next);
            }
            hub.joined(server);
            return Ok(());
        }
    }
    Err(failed("the record of its list of servers was changed by others again and again".to_owned()))
}

/// Asks for the record of a server.
pub(crate) fn look_at_list(hub: &ServerList) -> ItemCommand {
    ItemCommand::read(hub.full(LIST_KEY))
}

/// Whether a record is of our list.
pub(crate) fn is_ours(hub: &ServerList, record: &[u8]) -> bool {
    parts(record).0 == hub.list()
}

fn record(list: u64, generation: u64) -> Bytes {
    [list.to_le_bytes(), generation.to_le_bytes()].concat().into()
}

/// The list and the generation of a record; of another one a list that nobody has.
fn parts(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| record.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    match (record.len(), number(0), number(8)) {
        (16, Some(list), Some(generation)) => (list, generation),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (said, version) in [
            ("1.6.38", Some([1, 6, 38])),
            ("1.6.18_beta1", Some([1, 6, 18])),
            ("1.6.9", Some([1, 6, 9])),
            ("2.0.0", Some([2, 0, 0])),
            ("1.6", None),
            ("mcrouter", None),
        ] {
            assert_eq!(numbers(said), version, "{said}");
        }
        assert!(numbers("1.6.9") < Some(OLDEST) && numbers("1.10.0") > Some(OLDEST));
    }

    #[test]
    fn the_record_of_a_list_is_read_back_and_another_one_is_of_no_list() {
        assert_eq!(parts(&record(7, 9)), (7, 9));
        for other in [&b""[..], &record(7, 9)[1..], &[&record(7, 9)[..], b"x"].concat()] {
            assert_eq!(parts(other), (0, 0));
        }
    }
}
