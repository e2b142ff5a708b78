//! Values of every shape through a real server.

use crate::zoo;

use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::RedisServer;
use tokio::runtime::Runtime;

#[test]
fn every_value_comes_back_from_a_server_or_is_refused() {
    let runtime = Runtime::new().unwrap();
    let Some(server) = runtime.block_on(RedisServer::start()) else { return };
    let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap());
    let redis = runtime.block_on(redis).unwrap();
    zoo::every_value_comes_back_or_is_refused(&runtime, redis);
}
