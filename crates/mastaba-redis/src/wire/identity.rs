//! Which store it is, where the server does not say: a random number in the store itself (`R11`).
//!
//! The number is a record like any other, so it goes with a flush, and comes back with a dump or a replica. What would come
//! back with it is made void by two things:
//!
//! * who has lost a connection cannot know whether it finds the same records again, so it *renews* the number before it
//!   sends any other command on the next one. A failover or a restart ends connections, so whoever was connected renews;
//! * beside the number there is a *witness*: a script of that number, which the server knows until it is restarted. Redis
//!   (from 7.0) and Valkey neither replicate scripts nor store them, so a server that has the number and not the script got
//!   its records from elsewhere. Looked for with each connection and at every look after it, also over one that a proxy keeps.
//!
//! Processes may believe in different numbers for as long as it takes them to look again. That costs loads and nothing else: an
//! invalidation removes whatever stands under a key, a fill compares the fence, and a hold is respected whatever its number.

use mastaba::entry::Fence;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, RedisResult, Value};

use super::greet::is_refused;
use crate::hub::Hub;
use crate::loss::Loss;

/// The record, after the prefix of the configuration. No region can have that name.
const KEY: &[u8] = b"mastaba:@incarnation";

/// The number of the store that a connection leads to, which is made if there is none. `renew`: it is another one than before.
pub(super) async fn recall(
    connection: &mut MultiplexedConnection,
    hub: &Hub,
    renew: bool,
) -> RedisResult<u64> {
    let key = hub.full(KEY);
    let fresh = Fence::random().0;
    if !renew {
        // a write, so that a replica refuses it
        let place = set(&key, fresh).arg("NX").arg("GET").take();
        match connection.req_packed_command(&place).await? {
            Value::Nil => {
                leave_witness(connection, hub, &key, fresh).await?;
                return Ok(fresh);
            }
            Value::BulkString(bytes) => {
                if let Some(number) = number_of(&bytes)
                    && is_witnessed(connection, hub, &key, number).await?
                {
                    return Ok(number);
                }
            }
            // memory is full: what stands there can be read, and if nothing does, nothing that is stored counts
            Value::ServerError(error) if error.code() == "OOM" => {
                let found = connection.req_packed_command(redis::cmd("GET").arg(&key)).await?;
                return match &found {
                    Value::BulkString(bytes) => match number_of(bytes) {
                        Some(number) if is_witnessed(connection, hub, &key, number).await? => Ok(number),
                        _ => Err(error.into()),
                    },
                    _ => Err(error.into()),
                };
            }
            // another type stands there, which the number takes the place of
            Value::ServerError(error) if error.code() == "WRONGTYPE" => {}
            other => drop(other.extract_error()?),
        }
    }
    // the witness first: whoever finds the number finds it as well
    leave_witness(connection, hub, &key, fresh).await?;
    connection.req_packed_command(&set(&key, fresh)).await?.extract_error()?;
    Ok(fresh)
}

fn set(key: &[u8], number: u64) -> Cmd {
    let mut cmd = redis::cmd("SET");
    cmd.arg(key).arg(&number.to_le_bytes()[..]);
    cmd
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|number| *number != 0)
}

fn script(number: u64) -> String {
    format!("return '{number:016x}'")
}

/// Whether the server knows the script of a number. Where scripts are forbidden nobody can say, and it counts as known.
async fn is_witnessed(
    connection: &mut MultiplexedConnection,
    hub: &Hub,
    key: &[u8],
    number: u64,
) -> RedisResult<bool> {
    if hub.has_lost(Loss::Scripts) {
        return Ok(true);
    }
    let digest = sha1_smol::Sha1::from(script(number)).digest().to_string();
    let call = redis::cmd("EVALSHA").arg(digest).arg(1).arg(key).take();
    match connection.req_packed_command(&call).await? {
        Value::ServerError(error) if error.code() == "NOSCRIPT" => Ok(false),
        Value::ServerError(error) if is_refused(&error) => Ok(true),
        said => said.extract_error().map(|_| true),
    }
}

/// Lets the server know the script of a number.
async fn leave_witness(
    connection: &mut MultiplexedConnection,
    hub: &Hub,
    key: &[u8],
    number: u64,
) -> RedisResult<()> {
    if hub.has_lost(Loss::Scripts) {
        return Ok(());
    }
    let call = redis::cmd("EVAL").arg(script(number)).arg(1).arg(key).take();
    match connection.req_packed_command(&call).await? {
        Value::ServerError(error) if is_refused(&error) => Ok(()),
        said => said.extract_error().map(drop),
    }
}
